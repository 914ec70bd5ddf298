//! The couriers: one for each destination, so that none waits for another.

use std::time::Duration;

use dicom_dictionary_std::uids;
use rand::random;

use super::hub::Hub;
use super::render::SOURCE;
use super::worker::{Step, Worker};
use crate::dicom::commitment::{self, Report};
use crate::dicom::scu::{self, ObjectFile, SendError};
use crate::dicom::stow::{self, WebDestination};
use crate::event::{Event, ScanId};
use crate::failpoint::reach;
use crate::spool::{Delivery, Due, Outlook, Spool, SpoolError};

/// How long a storage commitment report may take on the association of its request.
const REPORT_WAIT: Duration = Duration::from_secs(2);

/// Carries results to one destination.
pub(super) struct Courier {
    /// The destination's name in the configuration.
    pub name: String,
    /// How it is reached.
    pub route: Route,
}

/// How a destination is reached.
pub(super) enum Route {
    /// C-STORE, and storage commitment where it is wanted.
    Dicom {
        /// The peer.
        peer: Box<scu::Destination>,
        /// Whether it must promise to keep what it got.
        commitment: bool,
    },
    /// STOW-RS.
    Stow(Box<WebDestination>),
}

impl Courier {
    /// Sends what is due first, then asks for commitments.
    ///
    /// # Errors
    /// When the spool fails; the delivery stays due.
    pub fn step(&self, worker: &Worker) -> Result<Step, SpoolError> {
        let deliveries = match worker.spool.due(&self.name)? {
            Due::Now(delivery) => return self.deliver(worker, &delivery),
            other => other,
        };
        let commitments = match &self.route {
            Route::Dicom { peer, commitment: true } => {
                match worker.spool.commitment_due(&self.name)? {
                    Due::Now(delivery) => return self.ask(worker, peer, &delivery),
                    other => other,
                }
            }
            _ => Due::Nothing,
        };
        Ok(match (deliveries, commitments) {
            (Due::In(a), Due::In(b)) => Step::Later(a.min(b)),
            (Due::In(time), _) | (_, Due::In(time)) => Step::Later(time),
            _ => Step::Idle,
        })
    }

    fn deliver(&self, worker: &Worker, delivery: &Delivery) -> Result<Step, SpoolError> {
        let objects = files(worker, delivery)?;
        let sent = match &self.route {
            Route::Dicom { peer, .. } => scu::store(peer, &objects).map(drop),
            Route::Stow(server) => stow::store(server, &objects),
        };
        match sent {
            Ok(()) => {
                reach("courier.sent");
                worker.spool.delivered(delivery.id, &self.name)?;
                worker.hub.reached(&self.name, true);
                let destination = self.name.clone();
                worker.hub.tell(Event::Delivered { scan: delivery.id, destination });
            }
            Err(error) => self.failed(worker, delivery, &error)?,
        }
        Ok(Step::Worked)
    }

    fn failed(
        &self,
        worker: &Worker,
        delivery: &Delivery,
        error: &SendError,
    ) -> Result<(), SpoolError> {
        worker.hub.reached(&self.name, false);
        let (scan, destination) = (delivery.id, self.name.clone());
        let reason = error.to_string();
        let outlook = if error.is_transient() {
            worker.spool.retry(scan, &self.name, &reason)?
        } else {
            worker.spool.give_up(scan, &self.name, &reason)?;
            Outlook::Dead
        };
        worker.hub.tell(match outlook {
            Outlook::Again { attempts, .. } => Event::Retried { scan, destination, attempts },
            Outlook::Dead => Event::GivenUp { scan, destination },
        });
        Ok(())
    }

    /// Asks for storage commitment. The report comes at once, or later to our own service.
    fn ask(
        &self,
        worker: &Worker,
        peer: &scu::Destination,
        delivery: &Delivery,
    ) -> Result<Step, SpoolError> {
        // A UID made from a random number (PS3.5 annex B.2).
        let transaction = format!("2.25.{}", random::<u128>());
        let outlook = worker.spool.requested(delivery.id, &self.name, &transaction)?;
        if outlook == Outlook::Dead {
            let (scan, destination) = (delivery.id, self.name.clone());
            worker.hub.tell(Event::GivenUp { scan, destination });
            return Ok(Step::Worked);
        }
        let named = |object: &crate::spool::ObjectPath| {
            (object.sop_class.clone(), object.sop_instance.clone())
        };
        let objects: Vec<_> = delivery.objects.iter().map(named).collect();
        match commitment::request(peer, &transaction, &objects, REPORT_WAIT) {
            Ok(Some(report)) => {
                promised(&worker.spool, &worker.hub, &self.name, delivery.id, &report)?
            }
            // It reports later; without a report the request is due again.
            Ok(None) => {}
            Err(error) => worker.hub.trouble("commitment", &error),
        }
        Ok(Step::Worked)
    }
}

/// What becomes of a delivery when its destination reports on its storage commitment: objects that
/// it will not keep are sent again.
///
/// # Errors
/// When the spool fails; the commitment is asked for again.
pub(super) fn promised(
    spool: &Spool,
    hub: &Hub,
    destination: &str,
    scan: ScanId,
    report: &Report,
) -> Result<(), SpoolError> {
    let name = || destination.to_owned();
    for scan in spool.committed(destination, &report.committed)? {
        hub.tell(Event::Committed { scan, destination: name() });
    }
    if !report.failed.is_empty() {
        hub.tell(match spool.retry(scan, destination, "it did not keep what it was sent")? {
            Outlook::Again { attempts, .. } => {
                Event::Retried { scan, destination: name(), attempts }
            }
            Outlook::Dead => Event::GivenUp { scan, destination: name() },
        });
    }
    Ok(())
}

fn files(worker: &Worker, delivery: &Delivery) -> Result<Vec<ObjectFile>, SpoolError> {
    let received = worker.spool.arrival(delivery.id)?.transfer_syntax;
    let file = |object: &crate::spool::ObjectPath| ObjectFile {
        path: object.path.clone(),
        sop_class: object.sop_class.clone(),
        sop_instance: object.sop_instance.clone(),
        transfer_syntax: if object.kind == SOURCE {
            received.clone()
        } else {
            uids::EXPLICIT_VR_LITTLE_ENDIAN.to_owned()
        },
    };
    Ok(delivery.objects.iter().map(file).collect())
}
