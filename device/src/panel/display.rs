//! Displays that keep a picture in memory until they are told to show it.

use std::path::PathBuf;

use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::prelude::{DrawTarget, OriginDimensions, Pixel, Size};
use linux_embedded_hal::I2cdev;
use ssd1306::mode::{BufferedGraphicsMode, DisplayConfig};
use ssd1306::prelude::{
    DisplayRotation, DisplaySize, DisplaySize128x32, DisplaySize128x64, I2CInterface,
};
use ssd1306::{I2CDisplayInterface, Ssd1306};

use super::PanelError;

/// A display whose picture is drawn first and shown then.
pub(super) trait Display: DrawTarget<Color = BinaryColor> {
    /// Shows what was drawn, `is_new` telling whether anything was since the last call.
    fn show(&mut self, is_new: bool) -> Result<(), DisplayFailed>;

    /// Starts a display that failed again, with an empty picture.
    fn restart(&mut self) -> Result<(), DisplayFailed>;
}

/// The display did not take what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DisplayFailed;

/// An SSD1306 on an I2C bus.
#[derive(Clone, Debug)]
pub struct DisplayOptions {
    /// The bus's character device, for example `/dev/i2c-1`.
    pub bus: PathBuf,
    /// Its address on the bus: 0x3c, seldom 0x3d.
    pub address: u8,
    /// Its height; all are 128 pixels wide.
    pub height: DisplayHeight,
}

/// Rows of a display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisplayHeight {
    /// 32 pixels.
    Pixels32,
    /// 64 pixels.
    Pixels64,
}

type Oled<S> = Ssd1306<I2CInterface<I2cdev>, S, BufferedGraphicsMode<S>>;

/// The board's display, or none.
pub(super) enum BoardDisplay {
    None,
    Low(Box<Oled<DisplaySize128x32>>),
    High(Box<Oled<DisplaySize128x64>>),
}

impl BoardDisplay {
    /// Opens the bus and starts the display.
    pub(super) fn open(options: Option<&DisplayOptions>) -> Result<Self, PanelError> {
        let Some(options) = options else { return Ok(Self::None) };
        let mut display = match options.height {
            DisplayHeight::Pixels32 => Self::Low(Box::new(oled(options, DisplaySize128x32)?)),
            DisplayHeight::Pixels64 => Self::High(Box::new(oled(options, DisplaySize128x64)?)),
        };
        let DisplayOptions { bus, address, .. } = options;
        let absent = |_| PanelError::Display { bus: bus.clone(), address: *address };
        display.restart().map_err(absent)?;
        Ok(display)
    }
}

fn oled<S: DisplaySize>(options: &DisplayOptions, size: S) -> Result<Oled<S>, PanelError> {
    let bus = I2cdev::new(&options.bus);
    let bus = bus.map_err(|source| PanelError::Bus { path: options.bus.clone(), source })?;
    let interface = I2CDisplayInterface::new_custom_address(bus, options.address);
    Ok(Ssd1306::new(interface, size, DisplayRotation::Rotate0).into_buffered_graphics_mode())
}

impl Display for BoardDisplay {
    fn show(&mut self, is_new: bool) -> Result<(), DisplayFailed> {
        match self {
            Self::None => Ok(()),
            Self::Low(_) | Self::High(_) if !is_new => Ok(()),
            Self::Low(oled) => oled.flush().map_err(|_| DisplayFailed),
            Self::High(oled) => oled.flush().map_err(|_| DisplayFailed),
        }
    }

    fn restart(&mut self) -> Result<(), DisplayFailed> {
        match self {
            Self::None => Ok(()),
            Self::Low(oled) => oled.init().map_err(|_| DisplayFailed),
            Self::High(oled) => oled.init().map_err(|_| DisplayFailed),
        }
    }
}

impl OriginDimensions for BoardDisplay {
    fn size(&self) -> Size {
        match self {
            Self::None => Size::zero(),
            Self::Low(oled) => oled.size(),
            Self::High(oled) => oled.size(),
        }
    }
}

impl DrawTarget for BoardDisplay {
    type Color = BinaryColor;
    type Error = DisplayFailed;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), DisplayFailed> {
        match self {
            Self::None => Ok(()),
            Self::Low(oled) => oled.draw_iter(pixels).map_err(|_| DisplayFailed),
            Self::High(oled) => oled.draw_iter(pixels).map_err(|_| DisplayFailed),
        }
    }
}
