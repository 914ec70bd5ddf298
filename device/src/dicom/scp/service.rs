//! The messages of an accepted association, one after the other.

use std::sync::atomic::{AtomicBool, Ordering};

use dicom_dictionary_std::uids;
use dicom_ul::pdu::Pdu;

use super::desk::Visit;
use super::negotiation::{Accepted, Agreement};
use super::reception::{self, Announced};
use super::{Inbox, Refusal, ScpOptions};
use crate::dicom::association::command::{Command, element, field};
use crate::dicom::association::data_set::MAX_SMALL;
use crate::dicom::association::socket::deadline_in;
use crate::dicom::association::wire::{Wire, WireError};
use crate::dicom::commitment::Report;
use crate::dicom::identity::is_uid;

/// Status: processing failure (PS3.7 annex C.5.8).
const PROCESSING_FAILURE: u16 = 0x0110;
/// Status: no such event type (PS3.7 annex C.5.12).
const NO_SUCH_EVENT_TYPE: u16 = 0x0113;
/// Status: SOP class not supported (PS3.7 annex C.5.6).
const CLASS_NOT_SUPPORTED: u16 = 0x0122;
/// Status: unrecognised operation (PS3.7 annex C.5.24).
const UNRECOGNISED_OPERATION: u16 = 0x0211;
/// Status: mistyped argument (PS3.7 annex C.5.15).
const MISTYPED_ARGUMENT: u16 = 0x0212;

/// Serves an association until its peer releases or aborts it, errs, is silent for too long, or
/// the service stops.
pub fn serve(
    wire: &mut Wire,
    agreement: &Agreement,
    options: &ScpOptions,
    inbox: &dyn Inbox,
    visit: &Visit,
    stop: &AtomicBool,
) {
    let session = Session { agreement, options, inbox };
    loop {
        visit.set_busy(false);
        if stop.load(Ordering::Acquire) {
            return wire.abort(WireError::TimedOut);
        }
        wire.set_deadline(deadline_in(options.timeouts.idle));
        match wire.receive_command() {
            Ok(Some((context, command))) => {
                visit.set_busy(true);
                wire.set_deadline(deadline_in(options.timeouts.object));
                if let Err(error) = session.answer(wire, context, &command) {
                    return session.end(wire, error);
                }
            }
            Ok(None) => {
                // A peer that does not wait for the answer has nothing to lose.
                let _ = wire.send(&Pdu::ReleaseRP);
                return wire.finish();
            }
            Err(error) => return session.end(wire, error),
        }
    }
}

struct Session<'a> {
    agreement: &'a Agreement,
    options: &'a ScpOptions,
    inbox: &'a dyn Inbox,
}

impl Session<'_> {
    fn answer(&self, wire: &mut Wire, id: u8, command: &Command) -> Result<(), WireError> {
        let context = self.agreement.contexts.get(&id).ok_or(WireError::Unexpected)?;
        match command.field() {
            field::C_ECHO => self.echo(wire, id, command),
            field::C_STORE => self.store(wire, id, context, command),
            field::N_EVENT_REPORT => self.report(wire, id, context, command),
            // Nothing here takes long enough to be cancelled; there is no answer to it.
            field::C_CANCEL => Ok(()),
            // A response to nothing, or no command at all.
            0 | field::RESPONSE.. => Err(WireError::Unexpected),
            _ => self.unknown(wire, id, command),
        }
    }

    fn echo(&self, wire: &mut Wire, id: u8, command: &Command) -> Result<(), WireError> {
        if command.has_data_set() {
            return Err(WireError::Unexpected);
        }
        wire.send_command(id, &Command::response(command, 0))
    }

    fn store(
        &self,
        wire: &mut Wire,
        id: u8,
        context: &Accepted,
        command: &Command,
    ) -> Result<(), WireError> {
        let status = if !command.has_data_set() {
            self.refused("an object came without its data");
            MISTYPED_ARGUMENT
        } else if command.uid(element::AFFECTED_CLASS) != Some(&context.abstract_syntax)
            || !self.options.classes.contains(&context.abstract_syntax)
        {
            reception::discard(wire, id)?;
            self.refused("an object's class is not the negotiated one");
            CLASS_NOT_SUPPORTED
        } else {
            self.receive(wire, id, context, command)?
        };
        // The object is safe by now, or refused: its sender gets time to hear of it.
        wire.set_deadline(deadline_in(self.options.timeouts.pause));
        wire.send_command(id, &Command::response(command, status))
    }

    fn receive(
        &self,
        wire: &mut Wire,
        id: u8,
        context: &Accepted,
        command: &Command,
    ) -> Result<u16, WireError> {
        let instance = command.uid(element::AFFECTED_INSTANCE).filter(|uid| is_uid(uid));
        let Some(instance) = instance else {
            reception::discard(wire, id)?;
            self.refused("an object came without a lawful identity");
            return Ok(MISTYPED_ARGUMENT);
        };
        let announced = Announced {
            sop_class: &context.abstract_syntax,
            sop_instance: instance,
            transfer_syntax: context.transfer_syntax,
            from: &self.agreement.from,
        };
        let most = self.options.max_object;
        Ok(match reception::receive(wire, id, &announced, self.inbox, most)? {
            Ok(()) => 0,
            Err(refusal) => {
                self.refused(Refusal::reason(refusal));
                refusal.status()
            }
        })
    }

    fn report(
        &self,
        wire: &mut Wire,
        id: u8,
        context: &Accepted,
        command: &Command,
    ) -> Result<(), WireError> {
        let data = match command.has_data_set() {
            true => wire.receive_small(id, MAX_SMALL)?,
            false => Vec::new(),
        };
        let status = if context.abstract_syntax != uids::STORAGE_COMMITMENT_PUSH_MODEL {
            UNRECOGNISED_OPERATION
        } else {
            match command.number(element::EVENT_TYPE) {
                Some(event @ 1..=2) => self.commit(event, &data, context.transfer_syntax),
                _ => NO_SUCH_EVENT_TYPE,
            }
        };
        wire.send_command(id, &Command::response(command, status))
    }

    fn commit(&self, event_type: u16, data: &[u8], transfer_syntax: &str) -> u16 {
        match Report::read(event_type, data, transfer_syntax) {
            Ok(Report { transaction, committed, failed }) => {
                self.inbox.commitment(&transaction, &committed, &failed);
                0
            }
            Err(_) => {
                self.refused("a commitment report cannot be read");
                PROCESSING_FAILURE
            }
        }
    }

    /// A request for something that is not offered.
    fn unknown(&self, wire: &mut Wire, id: u8, command: &Command) -> Result<(), WireError> {
        if command.has_data_set() {
            reception::discard(wire, id)?;
        }
        wire.send_command(id, &Command::response(command, UNRECOGNISED_OPERATION))
    }

    /// An association that ends otherwise than by its release. Silence between messages and an
    /// abort are a sender's right.
    fn end(&self, wire: &mut Wire, error: WireError) {
        wire.abort(error);
        match error {
            WireError::TimedOut | WireError::Aborted | WireError::Closed => {}
            WireError::Broken(_) => self.refused("an association broke off"),
            _ => self.refused("an association was aborted: its messages are not lawful"),
        }
    }

    fn refused(&self, reason: &'static str) {
        self.inbox.refused(&self.agreement.from, reason);
    }
}
