//! From the configuration to the options of each part.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::ServeError;
use super::deliver::{Courier, Route};
use super::render::{SOURCE, word};
use crate::config::{self, Config, Destination, ObjectKind, ServerTls, Way};
use crate::dicom::results::{Device, Kind};
use crate::dicom::scp::{ScpOptions, ScpTimeouts};
use crate::dicom::scu::{self, ClientTls, Timeouts};
use crate::dicom::stow::{Credentials, WebDestination};
use crate::dicom::tls::{self, Identity};
use crate::log::{LogOptions, SerialOptions};
use crate::panel::{
    self, Active, BoardOptions, DisplayHeight, DisplayOptions, PanelOptions, Wiring,
};
use crate::runtime::engine::EngineOptions;
use crate::spool::{self, Retry, Rule};
use crate::web::{self, TlsFiles};

/// Where displays of this kind answer on their bus.
const DISPLAY_ADDRESS: u8 = 0x3c;
/// Longest time to connect to a destination.
const CONNECT: Duration = Duration::from_secs(10);

pub(super) fn log(config: &Config) -> LogOptions {
    LogOptions {
        folder: config.board.data.join("log"),
        file_bytes: config.log.size,
        files: config.log.files,
        serial: config.log.serial.clone().map(|path| SerialOptions { path, baud: config.log.baud }),
    }
}

/// How the configuration wants networks to be run.
pub fn engine(config: &Config) -> EngineOptions {
    let threads = match config.board.threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    EngineOptions { threads, ..EngineOptions::default() }
}

pub(super) fn spool(config: &Config) -> spool::Options {
    let config::Retry { first, most, attempts } = config.retry;
    spool::Options {
        dir: config.board.data.join("spool"),
        keep_free: config.storage.keep_free,
        max_scan: config.receive.max_object,
        retention: config.storage.retention,
        destinations: config.destinations.iter().map(rule).collect(),
        retry: Retry { first, most, attempts },
    }
}

fn rule(destination: &Destination) -> Rule {
    let kinds = destination.send.iter().map(|kind| match kind {
        ObjectKind::SecondaryCapture => word(Kind::SecondaryCapture),
        ObjectKind::Report => word(Kind::Report),
        ObjectKind::PresentationState => word(Kind::PresentationState),
    });
    Rule {
        name: destination.name.clone(),
        wants_commitment: wants_commitment(destination),
        kinds: kinds.chain(destination.forward.then_some(SOURCE)).map(String::from).collect(),
    }
}

/// Whether a destination must promise to keep what it got.
pub(super) fn wants_commitment(destination: &Destination) -> bool {
    matches!(destination.way, Way::Dicom { commitment: true, .. })
}

pub(super) fn scp(config: &Config) -> Result<ScpOptions, ServeError> {
    let receive = &config.receive;
    let tls = receive.tls.as_ref().map(|ServerTls { certificate, key, client_ca }| {
        let identity = Identity { certificate: certificate.clone(), key: key.clone() };
        tls::server(&identity, client_ca.as_deref())
    });
    Ok(ScpOptions {
        allowed: receive.callers.clone(),
        max_associations: receive.associations,
        max_pdu: receive.max_pdu,
        max_object: receive.max_object,
        timeouts: ScpTimeouts {
            pause: receive.silence,
            request: receive.greeting,
            idle: receive.silence,
            object: receive.object,
            ..ScpTimeouts::default()
        },
        tls: tls.transpose()?,
        ..ScpOptions::new(receive.address, receive.ae_title.0.clone())
    })
}

/// The couriers, each with the longest time of one delivery.
pub(super) fn couriers(config: &Config) -> Result<Vec<(Courier, Duration)>, ServeError> {
    let courier = |destination: &Destination| {
        let route = route(destination, config)?;
        Ok((Courier { name: destination.name.clone(), route }, destination.timeout))
    };
    config.destinations.iter().map(courier).collect()
}

fn route(destination: &Destination, config: &Config) -> Result<Route, ServeError> {
    let timeout = destination.timeout;
    match &destination.way {
        Way::Dicom { address, ae_title, ca, identity, commitment } => {
            let tls = ca.as_deref().map(|ca| client_tls(ca, identity.as_ref(), address));
            let peer = scu::Destination {
                address: address.clone(),
                called: ae_title.0.clone(),
                calling: config.receive.ae_title.0.clone(),
                tls: tls.transpose()?,
                timeouts: Timeouts {
                    connect: CONNECT.min(timeout),
                    pause: timeout,
                    association: timeout,
                },
            };
            Ok(Route::Dicom { peer: Box::new(peer), commitment: *commitment })
        }
        Way::Stow { url, login, token, ca } => Ok(Route::Stow(Box::new(WebDestination {
            url: url.clone(),
            credentials: match (login, token) {
                (Some(file), _) => Credentials::Basic(file.clone()),
                (_, Some(file)) => Credentials::Bearer(file.clone()),
                (None, None) => Credentials::None,
            },
            ca: ca.clone(),
            connect: CONNECT.min(timeout),
            request: timeout,
        }))),
    }
}

fn client_tls(
    ca: &Path,
    identity: Option<&(std::path::PathBuf, std::path::PathBuf)>,
    address: &str,
) -> Result<ClientTls, ServeError> {
    let identity = identity
        .map(|(certificate, key)| Identity { certificate: certificate.clone(), key: key.clone() });
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    Ok(ClientTls {
        config: tls::client(ca, identity.as_ref())?,
        server_name: tls::server_name(host.trim_matches(['[', ']']))?,
    })
}

pub(super) fn results(config: &Config) -> Device {
    Device {
        manufacturer: "Spinesight".into(),
        model: "Spinesight device".into(),
        serial: config.board.serial.clone(),
        station: config.board.station.clone(),
        software: env!("CARGO_PKG_VERSION").into(),
        ae_title: config.receive.ae_title.0.clone(),
    }
}

/// Whether any destination wants the scan itself.
pub(super) fn forwards(config: &Config) -> bool {
    config.destinations.iter().any(|destination| destination.forward)
}

pub(super) fn page(page: &config::Page) -> Result<web::Options, ServeError> {
    let secret_hash = page.secret.as_deref().map(|path| {
        let unreadable = |error| ServeError::File { path: path.to_owned(), error };
        fs::read_to_string(path).map(|hash| hash.trim().to_owned()).map_err(unreadable)
    });
    let tls = page
        .tls
        .as_ref()
        .map(|files| TlsFiles { certificate: files.certificate.clone(), key: files.key.clone() });
    Ok(web::Options {
        address: page.address,
        names: page.names.clone(),
        tls,
        secret_hash: secret_hash.transpose()?,
        metrics_token: None,
        session: page.session,
        idle: page.idle,
    })
}

pub(super) fn panel(panel: &config::Panel) -> PanelOptions {
    match panel {
        config::Panel::None => PanelOptions::None,
        config::Panel::Terminal => PanelOptions::Terminal(Box::new(io::stdout())),
        config::Panel::Gpio { chip, lines, i2c, rows } => {
            let config::Lines { green, amber, red, buzzer, heartbeat, button, exposure } = *lines;
            PanelOptions::Board(BoardOptions {
                chip: chip.clone(),
                lines: panel::Lines { green, amber, red, buzzer, heartbeat, button, exposure },
                wiring: Wiring { red: Active::Low, button: Active::Low, ..Wiring::default() },
                display: i2c.clone().map(|bus| DisplayOptions {
                    bus,
                    address: DISPLAY_ADDRESS,
                    height: if *rows == 32 {
                        DisplayHeight::Pixels32
                    } else {
                        DisplayHeight::Pixels64
                    },
                }),
            })
        }
    }
}
