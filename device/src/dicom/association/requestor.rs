//! The end that asks for an association (PS3.8 section 7.1).

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use dicom_ul::pdu::{
    AssociationAC, AssociationRJ, AssociationRJResult, AssociationRQ, Pdu,
    PresentationContextProposed, PresentationContextResultReason, RequestorRoles, UserVariableItem,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::socket::{Socket, Transport, deadline_in};
use super::wire::{Wire, WireError};
use crate::dicom::identity::{
    APPLICATION_CONTEXT, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, is_ae_title, is_uid,
};

/// Longest P-DATA unit taken from a peer that was asked.
const MAX_RECEIVED: u32 = 64 * 1024;
/// Most presentation contexts of an association: the odd numbers of a byte.
pub const MAX_CONTEXTS: usize = 128;

/// A DICOM peer that is connected to.
#[derive(Clone)]
pub struct Destination {
    /// Host name or IP address, a colon and the port.
    pub address: String,
    /// Its AE title.
    pub called: String,
    /// The board's AE title.
    pub calling: String,
    /// TLS, where it is wanted.
    pub tls: Option<ClientTls>,
    /// How long it may take.
    pub timeouts: Timeouts,
}

/// TLS towards a peer.
#[derive(Clone)]
pub struct ClientTls {
    /// Whom to trust and who to be, from [`crate::dicom::tls::client`].
    pub config: Arc<ClientConfig>,
    /// The name that the peer's certificate must hold.
    pub server_name: ServerName<'static>,
}

/// How long a peer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To accept the connection.
    pub connect: Duration,
    /// For a single read or write.
    pub pause: Duration,
    /// For the whole association, the connection included.
    pub association: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(10), pause: seconds(30), association: seconds(600) }
    }
}

/// A class of objects or a service, in one transfer syntax or another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Abstract syntax UID.
    pub abstract_syntax: String,
    /// Transfer syntax UIDs.
    pub transfer_syntaxes: Vec<String>,
}

/// A presentation context that both ends agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Its number.
    pub id: u8,
    /// Abstract syntax UID.
    pub abstract_syntax: String,
    /// Transfer syntax UID.
    pub transfer_syntax: String,
}

/// Why there is no association.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The peer's address cannot be found.
    #[error("the destination's address cannot be found")]
    Address,
    /// The peer does not take the connection.
    #[error("no connection to the destination: {0}")]
    Connect(std::io::ErrorKind),
    /// TLS cannot be started at all.
    #[error("TLS cannot be used with the destination")]
    Tls,
    /// The peer said no.
    #[error("the destination rejected the association: {reason}")]
    Rejected {
        /// Whether it may say yes later.
        transient: bool,
        /// The peer's reason.
        reason: String,
    },
    /// The connection failed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// An AE title or a proposal that cannot be sent.
    #[error("the association request is not valid")]
    Request,
}

/// An association that this end asked for.
pub struct Association {
    /// The messages.
    pub wire: Wire,
    /// What was agreed; may be empty.
    pub contexts: Vec<Context>,
}

impl Association {
    /// Connects to a peer and asks for an association, proposing at most [`MAX_CONTEXTS`]
    /// contexts.
    ///
    /// # Errors
    /// Any of [`OpenError`], before the destination's deadline.
    pub fn open(destination: &Destination, proposals: &[Proposal]) -> Result<Self, OpenError> {
        let deadline = deadline_in(destination.timeouts.association);
        let request = request(destination, proposals)?;
        let mut wire = Wire::new(connect(destination, deadline)?, MAX_RECEIVED);
        let answer = wire.send(&request).and_then(|()| wire.receive());
        let accepted = match answer {
            Ok(Pdu::AssociationAC(accepted)) => accepted,
            Ok(Pdu::AssociationRJ(rejection)) => {
                wire.close();
                return Err(rejected(&rejection));
            }
            Ok(Pdu::AbortRQ { .. }) => return Err(gone(wire, WireError::Aborted)),
            Ok(_) => return Err(gone(wire, WireError::Unexpected)),
            Err(error) => return Err(gone(wire, error)),
        };
        if let Err(error) = wire.set_max_sent(max_length(&accepted)) {
            return Err(gone(wire, error));
        }
        let contexts = agreed(&accepted, proposals);
        Ok(Self { wire, contexts })
    }

    /// The context for a class in a transfer syntax.
    pub fn context(&self, abstract_syntax: &str, transfer_syntax: &str) -> Option<&Context> {
        self.contexts.iter().find(|context| {
            context.abstract_syntax == abstract_syntax && context.transfer_syntax == transfer_syntax
        })
    }

    /// The first context for a class.
    pub fn context_of(&self, abstract_syntax: &str) -> Option<&Context> {
        self.contexts.iter().find(|context| context.abstract_syntax == abstract_syntax)
    }

    /// Ends the association in peace. What was answered stays answered, so a peer that is gone by
    /// now is no failure.
    pub fn release(mut self) {
        let released = self.wire.send(&Pdu::ReleaseRQ).and_then(|()| self.wire.receive());
        match released {
            Ok(Pdu::ReleaseRP) => {
                self.wire.end_writing();
                self.wire.close();
            }
            Ok(_) => self.wire.abort(WireError::Unexpected),
            Err(error) => self.wire.abort(error),
        }
    }
}

fn gone(mut wire: Wire, why: WireError) -> OpenError {
    wire.abort(why);
    OpenError::Wire(why)
}

fn connect(destination: &Destination, deadline: Instant) -> Result<Transport, OpenError> {
    let limit = deadline_in(destination.timeouts.connect).min(deadline);
    let mut failure = OpenError::Address;
    for address in resolve(&destination.address, limit)? {
        let left = limit.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(OpenError::Wire(WireError::TimedOut));
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(tcp) => return transport(destination, tcp, deadline),
            Err(error) => failure = OpenError::Connect(error.kind()),
        }
    }
    Err(failure)
}

/// The addresses of a host. The system's resolver knows no deadline, so it works in a thread of
/// its own, which ends when the resolver gives up.
fn resolve(address: &str, limit: Instant) -> Result<Vec<SocketAddr>, OpenError> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let (sender, receiver) = mpsc::channel();
    let name = address.to_owned();
    std::thread::Builder::new()
        .name("resolver".into())
        .spawn(move || {
            let found = name.to_socket_addrs().map(|all| all.take(8).collect::<Vec<_>>());
            // Nobody listens any more after the deadline.
            let _ = sender.send(found);
        })
        .map_err(|error| OpenError::Connect(error.kind()))?;
    match receiver.recv_timeout(limit.saturating_duration_since(Instant::now())) {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(_)) => Err(OpenError::Address),
        Err(_) => Err(OpenError::Wire(WireError::TimedOut)),
    }
}

fn transport(
    destination: &Destination,
    tcp: TcpStream,
    deadline: Instant,
) -> Result<Transport, OpenError> {
    tcp.set_nodelay(true).map_err(|error| OpenError::Connect(error.kind()))?;
    let socket = Socket::new(Arc::new(tcp), destination.timeouts.pause, deadline);
    let Some(tls) = &destination.tls else { return Ok(Transport::Plain(socket)) };
    let connection = ClientConnection::new(tls.config.clone(), tls.server_name.clone())
        .map_err(|_| OpenError::Tls)?;
    Ok(Transport::TlsClient(Box::new(StreamOwned::new(connection, socket))))
}

fn request(destination: &Destination, proposals: &[Proposal]) -> Result<Pdu, OpenError> {
    let titles = is_ae_title(&destination.called) && is_ae_title(&destination.calling);
    let uids = proposals.iter().flat_map(|proposal| {
        std::iter::once(&proposal.abstract_syntax).chain(&proposal.transfer_syntaxes)
    });
    let number = (1..=MAX_CONTEXTS).contains(&proposals.len());
    if !titles || !number || !uids.into_iter().all(|uid| is_uid(uid)) {
        return Err(OpenError::Request);
    }
    let context = |(place, proposal): (usize, &Proposal)| PresentationContextProposed {
        id: context_id(place),
        abstract_syntax: proposal.abstract_syntax.clone(),
        transfer_syntaxes: proposal.transfer_syntaxes.clone(),
    };
    Ok(Pdu::AssociationRQ(AssociationRQ {
        protocol_version: 1,
        calling_ae_title: destination.calling.clone(),
        called_ae_title: destination.called.clone(),
        application_context_name: APPLICATION_CONTEXT.into(),
        presentation_contexts: proposals.iter().enumerate().map(context).collect(),
        user_variables: user_variables(MAX_RECEIVED, Vec::new()),
    }))
}

/// The number of the context at this place: odd numbers from 1.
fn context_id(place: usize) -> u8 {
    (2 * place + 1) as u8
}

/// What either end says about itself, and the roles it proposes or accepts (PS3.7 annex D.3.3).
pub fn user_variables(
    max_received: u32,
    roles: Vec<(String, RequestorRoles)>,
) -> Vec<UserVariableItem> {
    let mut variables = vec![
        UserVariableItem::MaxLength(max_received),
        UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS_UID.into()),
    ];
    let role = |(class, roles)| UserVariableItem::ScuScpRoleSelectionSubItem(class, roles);
    variables.extend(roles.into_iter().map(role));
    variables.push(UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION_NAME.into()));
    variables
}

fn max_length(accepted: &AssociationAC) -> u32 {
    let length = |variable: &UserVariableItem| match variable {
        UserVariableItem::MaxLength(length) => Some(*length),
        _ => None,
    };
    accepted.user_variables.iter().find_map(length).unwrap_or(0)
}

fn agreed(accepted: &AssociationAC, proposals: &[Proposal]) -> Vec<Context> {
    let mut contexts = Vec::new();
    for (place, proposal) in proposals.iter().enumerate() {
        let id = context_id(place);
        let result = accepted.presentation_contexts.iter().find(|result| {
            result.id == id && result.reason == PresentationContextResultReason::Acceptance
        });
        let Some(result) = result else { continue };
        let transfer_syntax = result.transfer_syntax.trim_end_matches('\0').to_owned();
        if proposal.transfer_syntaxes.contains(&transfer_syntax) {
            let abstract_syntax = proposal.abstract_syntax.clone();
            contexts.push(Context { id, abstract_syntax, transfer_syntax });
        }
    }
    contexts
}

fn rejected(rejection: &AssociationRJ) -> OpenError {
    OpenError::Rejected {
        transient: rejection.result == AssociationRJResult::Transient,
        reason: rejection.source.to_string(),
    }
}
