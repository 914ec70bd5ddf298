//! The lines of a board's panel, as the board's kernel shows them in `/sys/kernel/debug/gpio`.

use anyhow::{Context, Result};

use super::guest::Guest;
use crate::board::Panel;

const LINES: &str = "/sys/kernel/debug/gpio";

/// What a moment shows on the panel. A lamp or buzzer line that nobody drives counts as dark, but
/// for the red one, which lights when its line is low or nobody drives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lamps {
    /// All is well, or the last verdict was normal.
    pub green: bool,
    /// A human should look.
    pub amber: bool,
    /// An abnormal verdict or a fault.
    pub red: bool,
    /// The level of the line that pulses while the service lives; none when nobody drives it.
    pub heartbeat: Option<bool>,
}

/// Looks at a board's panel.
///
/// # Errors
/// When the board cannot be reached or has no GPIO chip.
pub fn look(guest: &Guest, panel: &Panel) -> Result<Lamps> {
    look_after(guest, panel, "true")
}

/// Looks at a board's panel as soon as a script has run on the board.
///
/// # Errors
/// As [`look`], and when the script fails.
pub fn look_after(guest: &Guest, panel: &Panel, script: &str) -> Result<Lamps> {
    let mount = format!("test -e {LINES} || mount -t debugfs debugfs /sys/kernel/debug");
    let text = guest.ask(&format!("{mount}; {script} && cat {LINES}"))?;
    lamps(&text, panel).with_context(|| format!("no lines of {} in:\n{text}", panel.chip))
}

/// Reads the kernel's list of the lines in use.
fn lamps(text: &str, panel: &Panel) -> Option<Lamps> {
    let chip = panel.chip.strip_prefix("/dev/")?;
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&format!("{chip}: GPIOs ")));
    let numbers = lines.next()?.split_once("GPIOs ")?.1;
    let first: u32 = numbers.split('-').next()?.parse().ok()?;
    let driven: Vec<(u32, bool)> =
        lines.map_while(|line| line.strip_prefix(" gpio-")).filter_map(driven_line).collect();
    let level = |offset: u32| driven.iter().find(|(line, _)| *line == first + offset).map(|l| l.1);
    Some(Lamps {
        green: level(panel.green) == Some(true),
        amber: level(panel.amber) == Some(true),
        red: level(panel.red) != Some(true),
        heartbeat: level(panel.heartbeat),
    })
}

/// Number and level of a line that is an output: ` gpio-NUMBER (NAME|CONSUMER) out hi`.
fn driven_line(line: &str) -> Option<(u32, bool)> {
    let number = line.split([' ', '(']).next()?.parse().ok()?;
    let mut words = line.rsplit_once(')')?.1.split_whitespace();
    (words.next()? == "out").then_some((number, words.next()? == "hi"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "gpiochip1: GPIOs 400-403, parent: x/y:\n gpio-400 (    |z   ) out hi\n\n\
        gpiochip0: GPIOs 504-511, parent: amba/9030000.pl061, 9030000.pl061:\n \
        gpio-504 (                    |green lamp          ) out hi \n \
        gpio-506 (                    |red lamp            ) out hi \n \
        gpio-507 (                    |GPIO Key Poweroff   ) in  lo IRQ ACTIVE LOW\n \
        gpio-509 (                    |heartbeat           ) out lo \n";

    fn panel() -> Panel {
        Panel {
            chip: "/dev/gpiochip0".to_owned(),
            green: 0,
            amber: 1,
            red: 2,
            buzzer: 4,
            heartbeat: 5,
            button: 6,
            i2c: None,
        }
    }

    #[test]
    fn driven_lines_are_read() {
        let lamps = lamps(TEXT, &panel()).unwrap();
        let expected = Lamps { green: true, amber: false, red: false, heartbeat: Some(false) };
        assert_eq!(lamps, expected);
    }

    #[test]
    fn without_a_driver_only_red_is_lit() {
        let text = "gpiochip0: GPIOs 504-511, parent: x:\n";
        let expected = Lamps { green: false, amber: false, red: true, heartbeat: None };
        assert_eq!(lamps(text, &panel()), Some(expected));
        assert_eq!(lamps("", &panel()), None);
    }

    #[test]
    fn red_is_lit_by_a_low_line() {
        let low = TEXT.replace("red lamp            ) out hi", "red lamp            ) out lo");
        assert!(lamps(&low, &panel()).unwrap().red);
    }
}
