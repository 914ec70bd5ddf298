//! Frames on a serial port, for a laptop beside a board whose disk or network is gone.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, Timespec};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, QueueSelector, tcflush, tcgetattr, tcsetattr};

use super::outlet::Sink;

/// How long one frame may wait for the line: longer means that nobody takes it.
const PATIENCE: Duration = Duration::from_millis(100);

/// An open port in raw mode: 8 data bits, no parity, one stop bit, no flow control.
#[derive(Debug)]
pub(super) struct SerialPort {
    port: OwnedFd,
}

impl SerialPort {
    /// Opens a terminal device and sets its speed in baud.
    ///
    /// # Errors
    /// When it is absent, no terminal, or does not know the speed.
    pub(super) fn open(path: &Path, baud: u32) -> io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let port = rustix::fs::open(path, flags, Mode::empty())?;
        let mut settings = tcgetattr(&port)?;
        settings.make_raw();
        settings.set_speed(baud)?;
        tcsetattr(&port, OptionalActions::Now, &settings)?;
        Ok(Self { port })
    }
}

impl Sink for SerialPort {
    fn write(&mut self, mut frame: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !frame.is_empty() {
            match rustix::io::write(&self.port, frame) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => frame = &frame[written..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => wait(&self.port, deadline)?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Drop for SerialPort {
    fn drop(&mut self) {
        // Closing a port whose line is stopped waits half a minute for what it still holds.
        let _ = tcflush(&self.port, QueueSelector::OFlush);
    }
}

fn wait(port: &OwnedFd, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).map_err(|_| ErrorKind::InvalidInput)?;
    match poll(&mut [PollFd::new(port, PollFlags::OUT)], Some(&left)) {
        Ok(0) => Err(ErrorKind::TimedOut.into()),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    fn pseudo_terminal() -> (File, std::path::PathBuf) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        (master.into(), name.into())
    }

    #[test]
    fn bytes_arrive_as_they_are() {
        let (mut far_end, path) = pseudo_terminal();
        let mut port = SerialPort::open(&path, 115_200).unwrap();
        // Bytes that a terminal in its usual mode would change.
        let frame = [0, b'\n', b'\r', 3, 17, 19, 0xff, 0];
        port.write(&frame).unwrap();
        let mut received = [1; 8];
        far_end.read_exact(&mut received).unwrap();
        assert_eq!(received, frame);
    }

    /// Covers: LOG-2
    #[test]
    fn a_line_that_nobody_takes_fails_and_does_not_block() {
        let (_far_end, path) = pseudo_terminal();
        let mut port = SerialPort::open(&path, 115_200).unwrap();
        let error = (0..100).find_map(|_| port.write(&[1; 4096]).err()).unwrap();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn what_is_no_port_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(SerialPort::open(file.path(), 115_200).is_err());
        assert!(SerialPort::open(Path::new("/dev/no-such-port"), 115_200).is_err());
    }
}
