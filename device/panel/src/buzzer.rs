//! Which sound the buzzer makes.

/// Times in milliseconds, on and off in turn, beginning with on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    steps: &'static [u16],
    repeats: bool,
}

/// A finding: two short tones every five seconds.
pub(crate) const ABNORMAL: Pattern = Pattern { steps: &[150, 100, 150, 4600], repeats: true };
/// The device needs help: one long tone every five seconds.
pub(crate) const ALARM: Pattern = Pattern { steps: &[800, 4200], repeats: true };
/// A scan was referred: one short tone.
pub(crate) const REFER: Pattern = Pattern { steps: &[100], repeats: false };
/// An exposure would be in vain: four quick tones.
pub(crate) const WARNING: Pattern =
    Pattern { steps: &[80, 80, 80, 80, 80, 80, 80], repeats: false };

impl Pattern {
    /// Whether the buzzer sounds so long after the beginning; none when the pattern is over.
    fn is_on(&self, elapsed: u32) -> Option<bool> {
        let length: u32 = self.steps.iter().map(|&step| u32::from(step)).sum();
        let mut left = if self.repeats { elapsed.checked_rem(length)? } else { elapsed };
        for (place, &step) in self.steps.iter().enumerate() {
            let step = u32::from(step);
            if left < step {
                return Some(place % 2 == 0);
            }
            left -= step;
        }
        None
    }
}

/// What sounds, and since when.
#[derive(Debug, Default)]
pub(crate) struct Sound {
    playing: Option<(&'static Pattern, u32)>,
}

impl Sound {
    /// Begins a pattern, in place of what sounds.
    pub(crate) fn play(&mut self, pattern: &'static Pattern, now: u32) {
        self.playing = Some((pattern, now));
    }

    /// Ends what sounds.
    pub(crate) fn mute(&mut self) {
        self.playing = None;
    }

    /// Ends a pattern where it sounds; another one goes on.
    pub(crate) fn end(&mut self, pattern: &Pattern) {
        if self.playing.is_some_and(|(playing, _)| playing == pattern) {
            self.playing = None;
        }
    }

    /// Whether the buzzer sounds now.
    pub(crate) fn is_on(&mut self, now: u32) -> bool {
        let Some((pattern, since)) = self.playing else { return false };
        let is_on = pattern.is_on(now.wrapping_sub(since));
        if is_on.is_none() {
            self.playing = None;
        }
        is_on.unwrap_or(false)
    }
}
