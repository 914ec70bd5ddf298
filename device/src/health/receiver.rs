//! Does our own receiver answer, as a sender would find it?

use std::fmt::{self, Debug, Formatter};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct,
    SignatureScheme, Stream,
};

use super::{Finding, failed, ok, unknown};
use crate::config::{Config, Receive};
use crate::dicom::association::requestor::OpenError;
use crate::dicom::identity::is_ae_title;
use crate::dicom::scu::{ClientTls, Destination, SendError, Timeouts, echo};
use crate::dicom::tls::{self, TlsError};

/// Longest time for the echo, and for each of its steps.
const PATIENCE: Duration = Duration::from_secs(15);
/// A name for the handshake; the certificate itself is compared, not what it names.
const HOST: &str = "localhost";

pub(super) fn look(config: &Config) -> Finding {
    let receive = &config.receive;
    let address = reachable(receive.address);
    let client = match receive.tls.as_ref().map(|tls| client(&tls.certificate)).transpose() {
        Ok(client) => client,
        Err(error) => return failed(format!("{error}.")),
    };
    let calling = caller(receive);
    let destination = Destination {
        address: address.to_string(),
        called: receive.ae_title.0.clone(),
        calling: calling.clone(),
        tls: client.clone(),
        timeouts: Timeouts { connect: PATIENCE, pause: PATIENCE, association: PATIENCE },
    };
    let secured = if client.is_some() { " over TLS" } else { "" };
    match echo(&destination) {
        Ok(()) => ok(format!("It answered {calling}'s echo{secured}.")),
        Err(SendError::Open(OpenError::Rejected { transient: true, .. })) => {
            unknown("It has too many senders to answer an echo just now.")
        }
        Err(SendError::Open(OpenError::Rejected { .. })) if receive.callers.is_empty() => {
            ok(format!("It answers{secured}, and turns everyone away: receive.callers is empty."))
        }
        Err(error) => match client.filter(|_| demands_certificates(receive)) {
            Some(client) if is_certificate_demanded(address, &client) => ok(
                "It speaks TLS with our certificate and demands a sender's, which this check has \
                 not: no echo was tried.",
            ),
            _ => failed(format!("It does not answer at {address}: {error}.")),
        },
    }
}

/// Where this machine finds an address that is listened on.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// A sender that is let in, where the configuration has one.
fn caller(receive: &Receive) -> String {
    let lawful = receive.callers.iter().find(|caller| *caller != "*" && is_ae_title(caller));
    lawful.unwrap_or(&receive.ae_title.0).clone()
}

fn demands_certificates(receive: &Receive) -> bool {
    receive.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
}

/// Whether the other end proves to have our certificate, and ends the handshake only because it
/// gets none in return.
fn is_certificate_demanded(address: SocketAddr, client: &ClientTls) -> bool {
    let attempt = || -> std::io::Result<()> {
        let mut tcp = TcpStream::connect_timeout(&address, PATIENCE)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        let connection = ClientConnection::new(client.config.clone(), client.server_name.clone());
        let mut connection = connection.map_err(std::io::Error::other)?;
        Stream::new(&mut connection, &mut tcp).read_exact(&mut [0])
    };
    let Err(error) = attempt() else { return false };
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    matches!(cause, Some(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)))
}

/// TLS towards a receiver that has this certificate, whoever signed it.
fn client(certificate: &Path) -> Result<ClientTls, TlsError> {
    let ours = tls::certificates(certificate)?.swap_remove(0);
    let setup = |error: rustls::Error| TlsError::Setup(error.to_string());
    let provider = tls::provider();
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { ours, provider }))
        .with_no_client_auth();
    Ok(ClientTls { config: Arc::new(config), server_name: tls::server_name(HOST)? })
}

/// Trusts one certificate alone, and whoever proves to have its key.
struct Pinned {
    ours: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl Debug for Pinned {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("Pinned")
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *shown == self.ours {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, shown, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, shown, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
pub(in crate::health) mod tests;
