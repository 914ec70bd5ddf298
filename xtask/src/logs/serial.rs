//! A serial port that a board's log comes in on.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags, fcntl_setfl};
use rustix::termios::{ControlModes, OptionalActions, tcgetattr, tcsetattr};

use super::decode::{Printer, Style};
use super::programs::Programs;

/// Speed of a port of which nothing is known, in baud: that of the service's configuration.
pub const BAUD: u32 = 115_200;

/// Prints what a port brings, until it is gone.
///
/// # Errors
/// Always in the end: when the port cannot be used or is gone, the program that wrote the log is
/// not here, or the output does not take a line.
pub fn print(
    port: &Path,
    baud: u32,
    programs: &Programs,
    style: Style,
    out: &mut impl Write,
) -> Result<()> {
    let name = port.display().to_string();
    let mut opened = open(port, baud)?;
    eprintln!("{name}: listening at {baud} baud");
    let mut printer = Printer::new(programs, name.clone(), None, style)?;
    let mut part = [0; 4096];
    loop {
        // A port that is unplugged fails, or has nothing more.
        match opened.read(&mut part) {
            Ok(0) => bail!("{name}: the serial port is gone"),
            Ok(length) => printer.take(&part[..length], out)?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).with_context(|| format!("{name}: the port is gone")),
        }
    }
}

/// Opens a port in raw mode: 8 data bits, no parity, one stop bit, no flow control; speed in baud.
///
/// # Errors
/// When it is absent, not this user's to read, no serial port, or does not know the speed.
pub fn open(port: &Path, baud: u32) -> Result<File> {
    let name = port.display();
    // Without waiting for a modem to say that it is there.
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(port, flags, Mode::empty());
    let opened = opened.with_context(|| {
        format!("cannot open the serial port {name}: is it plugged in, may this user read it?")
    })?;
    let mut settings = tcgetattr(&opened).with_context(|| format!("{name} is no serial port"))?;
    settings.make_raw();
    settings.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
    let set = settings.set_speed(baud).and_then(|()| {
        fcntl_setfl(&opened, OFlags::empty())?;
        tcsetattr(&opened, OptionalActions::Now, &settings)
    });
    set.with_context(|| format!("{name} does not take {baud} baud"))?;
    Ok(opened.into())
}

#[cfg(test)]
pub mod tests {
    use std::path::PathBuf;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    /// A port's far end, and what the port is called.
    pub fn pseudo_terminal() -> (File, PathBuf) {
        let far_end = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&far_end).unwrap();
        unlockpt(&far_end).unwrap();
        let name = ptsname(&far_end, Vec::new()).unwrap().into_string().unwrap();
        (far_end.into(), name.into())
    }

    #[test]
    fn bytes_arrive_as_they_were_sent() {
        let (mut far_end, name) = pseudo_terminal();
        let mut port = open(&name, 115_200).unwrap();
        // Bytes that a terminal in its usual mode would change.
        let sent = [0, b'\r', b'\n', 3, 4, 17, 19, 0xff, 0];
        far_end.write_all(&sent).unwrap();
        let mut received = [1; 9];
        port.read_exact(&mut received).unwrap();
        assert_eq!(received, sent);
    }

    #[test]
    fn what_is_no_port_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = open(file.path(), 115_200).unwrap_err().to_string();
        assert!(error.ends_with("is no serial port"), "{error}");
        let error = open(Path::new("/dev/no-such-port"), 115_200).unwrap_err().to_string();
        assert!(error.contains("is it plugged in"), "{error}");
    }
}
