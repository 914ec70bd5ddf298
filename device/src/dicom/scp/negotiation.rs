//! The answer to an association request (PS3.8 sections 7.1 and 9.3, PS3.7 annex D).

use std::collections::HashMap;
use std::collections::HashSet;

use dicom_dictionary_std::uids;
use dicom_ul::pdu::{
    AssociationAC, AssociationRJ, AssociationRJResult as Decision,
    AssociationRJServiceProviderASCEReason as AcseReason,
    AssociationRJServiceProviderPresentationReason as PresentationReason,
    AssociationRJServiceUserReason as UserReason, AssociationRJSource as Source, AssociationRQ,
    Pdu, PresentationContextProposed, PresentationContextResult,
    PresentationContextResultReason as ResultReason, RequestorRoles, UserVariableItem,
};

use super::ScpOptions;
use crate::dicom::association::requestor::{MAX_CONTEXTS, user_variables};
use crate::dicom::association::wire::{Wire, WireError};
use crate::dicom::identity::{APPLICATION_CONTEXT, is_ae_title};
use crate::dicom::syntaxes;

/// An association with a sender.
pub struct Agreement {
    /// The sender's AE title.
    pub from: String,
    /// Abstract and transfer syntax of each context that was accepted.
    pub contexts: HashMap<u8, Accepted>,
}

/// A presentation context that was accepted.
#[derive(Clone)]
pub struct Accepted {
    /// Abstract syntax UID.
    pub abstract_syntax: String,
    /// Transfer syntax UID.
    pub transfer_syntax: &'static str,
}

/// Why there is no association.
pub enum TurnedAway {
    /// The request was turned down, and its sender knows.
    Request {
        /// The sender's AE title, where it has a lawful one.
        from: String,
        /// Why.
        reason: &'static str,
    },
    /// There was no request.
    Wire(WireError),
}

impl From<WireError> for TurnedAway {
    fn from(error: WireError) -> Self {
        TurnedAway::Wire(error)
    }
}

/// Receives a request and answers it; `room` takes a place for the association.
pub fn negotiate(
    wire: &mut Wire,
    options: &ScpOptions,
    room: impl FnOnce() -> bool,
) -> Result<Agreement, TurnedAway> {
    let request = match wire.receive()? {
        Pdu::AssociationRQ(request) => request,
        Pdu::AbortRQ { .. } => return Err(TurnedAway::Wire(WireError::Aborted)),
        _ => return Err(TurnedAway::Wire(WireError::Unexpected)),
    };
    if let Err(objection) = judge(&request, options).and_then(|()| take(room)) {
        return Err(reject(wire, &request, objection));
    }
    wire.set_max_sent(max_length(&request))?;
    let (results, contexts) = answer(&request.presentation_contexts, &options.classes);
    wire.send(&Pdu::AssociationAC(AssociationAC {
        protocol_version: 1,
        calling_ae_title: request.calling_ae_title.clone(),
        called_ae_title: request.called_ae_title,
        application_context_name: APPLICATION_CONTEXT.into(),
        presentation_contexts: results,
        user_variables: user_variables(options.max_pdu, roles(&request.user_variables)),
    }))?;
    Ok(Agreement { from: request.calling_ae_title, contexts })
}

struct Objection {
    result: Decision,
    source: Source,
    reason: &'static str,
}

fn objection(source: Source, reason: &'static str) -> Objection {
    Objection { result: Decision::Permanent, source, reason }
}

fn judge(request: &AssociationRQ, options: &ScpOptions) -> Result<(), Objection> {
    let user = Source::ServiceUser;
    if request.protocol_version & 1 == 0 {
        let source = Source::ServiceProviderASCE(AcseReason::ProtocolVersionNotSupported);
        return Err(objection(source, "the sender speaks another protocol version"));
    }
    if request.application_context_name.trim_end_matches(['\0', ' ']) != APPLICATION_CONTEXT {
        let source = user(UserReason::ApplicationContextNameNotSupported);
        return Err(objection(source, "the sender asked for another application context"));
    }
    let called = &request.called_ae_title;
    let mine =
        if options.require_called { *called == options.ae_title } else { is_ae_title(called) };
    if !mine {
        let source = user(UserReason::CalledAETitleNotRecognized);
        return Err(objection(source, "the sender called another AE title"));
    }
    let calling = &request.calling_ae_title;
    let listed = options.allowed.iter().any(|allowed| allowed == "*" || allowed == calling);
    if !listed || !is_ae_title(calling) {
        let source = user(UserReason::CallingAETitleNotRecognized);
        return Err(objection(source, "the sender's AE title is not on the list"));
    }
    if !lawful(&request.presentation_contexts) {
        let source = user(UserReason::NoReasonGiven);
        return Err(objection(source, "the sender's presentation contexts are not lawful"));
    }
    Ok(())
}

/// Contexts are 1 to 128, with different odd numbers (PS3.8 section 9.3.2.2).
fn lawful(contexts: &[PresentationContextProposed]) -> bool {
    let mut seen = HashSet::new();
    (1..=MAX_CONTEXTS).contains(&contexts.len())
        && contexts.iter().all(|context| context.id % 2 == 1 && seen.insert(context.id))
}

fn take(room: impl FnOnce() -> bool) -> Result<(), Objection> {
    if room() {
        return Ok(());
    }
    let source = Source::ServiceProviderPresentation(PresentationReason::LocalLimitExceeded);
    let reason = "there are too many associations";
    Err(Objection { result: Decision::Transient, source, reason })
}

fn reject(wire: &mut Wire, request: &AssociationRQ, objection: Objection) -> TurnedAway {
    let Objection { result, source, reason } = objection;
    // Whoever does not wait for the answer is turned away as well.
    let _ = wire.send(&Pdu::AssociationRJ(AssociationRJ { result, source }));
    let calling = &request.calling_ae_title;
    let from = if is_ae_title(calling) { calling.clone() } else { "unnamed".into() };
    TurnedAway::Request { from, reason }
}

type Answer = (Vec<PresentationContextResult>, HashMap<u8, Accepted>);

/// For each context, the first of the sender's transfer syntaxes that is accepted.
fn answer(proposed: &[PresentationContextProposed], classes: &[String]) -> Answer {
    let mut results = Vec::with_capacity(proposed.len());
    let mut contexts = HashMap::new();
    for context in proposed {
        let abstract_syntax = context.abstract_syntax.trim_end_matches('\0');
        let accepted = syntaxes::accepted(abstract_syntax, classes);
        let chosen = context.transfer_syntaxes.iter().find_map(|syntax| {
            accepted.iter().find(|accepted| **accepted == syntax.trim_end_matches('\0'))
        });
        let reason = match chosen {
            Some(_) => ResultReason::Acceptance,
            None if accepted.is_empty() => ResultReason::AbstractSyntaxNotSupported,
            None => ResultReason::TransferSyntaxesNotSupported,
        };
        // Where nothing was accepted, the transfer syntax has no meaning.
        let transfer_syntax = chosen.copied().unwrap_or(uids::IMPLICIT_VR_LITTLE_ENDIAN);
        results.push(PresentationContextResult {
            id: context.id,
            reason,
            transfer_syntax: transfer_syntax.into(),
        });
        if chosen.is_some() {
            let abstract_syntax = abstract_syntax.to_owned();
            contexts.insert(context.id, Accepted { abstract_syntax, transfer_syntax });
        }
    }
    (results, contexts)
}

/// A destination that reports on a commitment is the provider of that service: it may take that
/// role, and no other is granted (PS3.4 annex J.3.3).
fn roles(variables: &[UserVariableItem]) -> Vec<(String, RequestorRoles)> {
    let commitment = |variable: &UserVariableItem| match variable {
        UserVariableItem::ScuScpRoleSelectionSubItem(class, roles)
            if class.trim_end_matches('\0') == uids::STORAGE_COMMITMENT_PUSH_MODEL =>
        {
            let granted = RequestorRoles { scu: false, scp: roles.scp };
            Some((uids::STORAGE_COMMITMENT_PUSH_MODEL.to_owned(), granted))
        }
        _ => None,
    };
    variables.iter().find_map(commitment).into_iter().collect()
}

fn max_length(request: &AssociationRQ) -> u32 {
    let length = |variable: &UserVariableItem| match variable {
        UserVariableItem::MaxLength(length) => Some(*length),
        _ => None,
    };
    request.user_variables.iter().find_map(length).unwrap_or(0)
}
