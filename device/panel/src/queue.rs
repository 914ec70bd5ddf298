//! The events between service and panel: of fixed capacity, alarms last to go.

use heapless::Deque;

use crate::Event;

/// At most `N` events, oldest first.
///
/// A full queue makes room by dropping its oldest event that is no alarm. Only where all are alarms
/// is an alarm dropped: the oldest, and only for another alarm.
#[derive(Debug, Default)]
pub struct Queue<const N: usize> {
    events: Deque<Event, N>,
    dropped: u32,
    dropped_alarms: u32,
}

impl<const N: usize> Queue<N> {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { events: Deque::new(), dropped: 0, dropped_alarms: 0 }
    }

    /// Appends an event, in a full queue at the cost of another one.
    pub fn push(&mut self, event: Event) {
        if self.events.is_full() && !self.drop_oldest_other() {
            if !event.is_alarm() {
                self.dropped = self.dropped.saturating_add(1);
                return;
            }
            self.events.pop_front();
            self.dropped_alarms = self.dropped_alarms.saturating_add(1);
        }
        // Fails only for a queue without any place.
        if self.events.push_back(event).is_err() {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// Takes the oldest event.
    pub fn pop(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Events without alarm that were dropped so far.
    pub fn dropped(&self) -> u32 {
        self.dropped
    }

    /// Alarms that were dropped so far.
    pub fn dropped_alarms(&self) -> u32 {
        self.dropped_alarms
    }

    /// Drops the oldest event that is no alarm; whether there was one.
    fn drop_oldest_other(&mut self) -> bool {
        let Some(victim) = self.events.iter().position(|event| !event.is_alarm()) else {
            return false;
        };
        // Once around keeps the order of the others.
        for place in 0..self.events.len() {
            let event = self.events.pop_front();
            let kept = event.filter(|_| place != victim);
            // There is room: one was taken just now.
            let _ = kept.map(|event| self.events.push_back(event));
        }
        self.dropped = self.dropped.saturating_add(1);
        true
    }
}
