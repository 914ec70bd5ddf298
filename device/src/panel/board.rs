//! A panel on the lines of a GPIO character device.

use std::path::Path;

use ::panel::{Active, Panel, Parts};
use embedded_hal::digital::{ErrorType, InputPin};
use linux_embedded_hal::gpio_cdev::{Chip, Error, LineRequestFlags};
use linux_embedded_hal::{CdevPin, CdevPinError};

use super::display::BoardDisplay;
use super::{BoardOptions, Lines, PanelError};

type BoardPanel =
    Panel<CdevPin, CdevPin, CdevPin, CdevPin, CdevPin, OptionalInput, CdevPin, BoardDisplay>;

/// Takes all lines and starts the display.
///
/// Until the first tick red is lit and everything else is off.
pub(super) fn panel(options: BoardOptions) -> Result<BoardPanel, PanelError> {
    let BoardOptions { chip: path, lines, mut wiring, display } = options;
    let Lines { green, amber, red, buzzer, heartbeat, button, exposure } = lines;
    let chip = Chip::new(&path);
    let chip = chip.map_err(|source| PanelError::Chip { path: path.clone(), source })?;
    let mut lines = ChipLines { chip, path: &path };
    let parts = Parts {
        red: lines.output("red lamp", red, level(wiring.red, true))?,
        green: lines.output("green lamp", green, level(wiring.green, false))?,
        amber: lines.output("amber lamp", amber, level(wiring.amber, false))?,
        buzzer: lines.output("buzzer", buzzer, level(wiring.buzzer, false))?,
        heartbeat: lines.output("heartbeat", heartbeat, 0)?,
        button: lines.input("button", button)?,
        exposure: OptionalInput(
            exposure.map(|offset| lines.input("exposure line", offset)).transpose()?,
        ),
        display: BoardDisplay::open(display.as_ref())?,
    };
    if exposure.is_none() {
        wiring.exposure = Active::High;
    }
    Ok(Panel::new(parts, wiring, 0))
}

/// A line that may be unconnected: then always low.
pub(super) struct OptionalInput(Option<CdevPin>);

impl ErrorType for OptionalInput {
    type Error = CdevPinError;
}

impl InputPin for OptionalInput {
    fn is_high(&mut self) -> Result<bool, CdevPinError> {
        self.0.as_mut().map_or(Ok(false), InputPin::is_high)
    }

    fn is_low(&mut self) -> Result<bool, CdevPinError> {
        self.is_high().map(|is_high| !is_high)
    }
}

struct ChipLines<'a> {
    chip: Chip,
    path: &'a Path,
}

impl ChipLines<'_> {
    fn output(
        &mut self,
        part: &'static str,
        offset: u32,
        level: u8,
    ) -> Result<CdevPin, PanelError> {
        self.request(part, offset, LineRequestFlags::OUTPUT, level)
    }

    fn input(&mut self, part: &'static str, offset: u32) -> Result<CdevPin, PanelError> {
        self.request(part, offset, LineRequestFlags::INPUT, 0)
    }

    fn request(
        &mut self,
        part: &'static str,
        offset: u32,
        direction: LineRequestFlags,
        level: u8,
    ) -> Result<CdevPin, PanelError> {
        // The wiring's active levels are the panel's business, not the kernel's.
        let mut take = || -> Result<CdevPin, Error> {
            let line = self.chip.get_line(offset)?;
            CdevPin::new(line.request(direction.clone(), level, "spinesight panel")?)
        };
        let chip = self.path.to_path_buf();
        take().map_err(|source| PanelError::Line { part, offset, chip, source })
    }
}

fn level(active: Active, is_on: bool) -> u8 {
    u8::from(is_on == (active == Active::High))
}
