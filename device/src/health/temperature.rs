//! How warm the board is.

use std::fs;
use std::path::Path;

use super::{Finding, failed, ok, unknown};

/// Where Linux has its temperature sensors.
pub const ZONES: &str = "/sys/class/thermal";

/// Degrees Celsius from which a processor slows itself down.
pub const HOT: f32 = 85.0;

/// The hottest of the sensors in a folder of zones, in degrees Celsius.
pub fn hottest(zones: &Path) -> Option<f32> {
    let degrees = fs::read_dir(zones).ok()?.flatten().filter_map(|zone| {
        let text = fs::read_to_string(zone.path().join("temp")).ok()?;
        Some(text.trim().parse::<f32>().ok()? / 1_000.0)
    });
    degrees.filter(|degrees| (-40.0..200.0).contains(degrees)).max_by(f32::total_cmp)
}

pub(super) fn look(zones: &Path, limit: f32) -> Finding {
    match hottest(zones) {
        None => unknown("The board has no temperature sensor."),
        Some(degrees) if degrees < limit => ok(format!("The board has {degrees:.0} °C.")),
        Some(degrees) => {
            failed(format!("The board is hot: {degrees:.0} °C, the limit is {limit:.0} °C."))
        }
    }
}
