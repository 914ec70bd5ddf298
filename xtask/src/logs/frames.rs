//! Bytes become frames, before anything is known of the program that sent them.
//!
//! Frames are in defmt's encoding `rzcobs` (Reverse Zero-compressing COBS) with a zero byte in front
//! of and behind each; a decoded frame is defmt's wire format 4.

/// Longer than any frame of the board: what has no zero for so long is no log.
const MAX_FRAME: usize = 4096;

/// Cuts a stream into frames. It may begin anywhere: what lies before the first zero is not whole.
#[derive(Debug, Default)]
pub struct Splitter {
    /// Bytes behind the last zero.
    bytes: Vec<u8>,
    /// Whether a zero has been seen since the stream began or made no sense.
    is_aligned: bool,
}

impl Splitter {
    /// Takes bytes and hands every frame that they complete to `each`, still encoded.
    ///
    /// # Errors
    /// The first one of `each`, which is then not called again.
    pub fn take<E>(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for &byte in bytes {
            if byte == 0 {
                let frame = std::mem::take(&mut self.bytes);
                if self.is_aligned && !frame.is_empty() {
                    each(&frame)?;
                }
                self.is_aligned = true;
            } else if self.is_aligned {
                self.bytes.push(byte);
                if self.bytes.len() > MAX_FRAME {
                    *self = Splitter::default();
                }
            }
        }
        Ok(())
    }
}

/// Undoes `rzcobs`, which is read from its end; `None` for bytes that it cannot make.
pub fn decoded(frame: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    let mut rest = frame.iter().rev().copied();
    while let Some(code) = rest.next() {
        match code {
            0 => return None,
            // A bit for each of seven bytes: set where it is zero.
            0x01..=0x7f => {
                for bit in (0..7).rev() {
                    let is_zero = code & (1 << bit) != 0;
                    decoded.push(if is_zero { 0 } else { rest.next()? });
                }
            }
            // A zero behind so many bytes that are none.
            0x80..=0xfe => {
                decoded.push(0);
                for _ in 0..(code & 0x7f) + 7 {
                    decoded.push(rest.next()?);
                }
            }
            0xff => {
                for _ in 0..134 {
                    decoded.push(rest.next()?);
                }
            }
        }
    }
    decoded.reverse();
    Some(decoded)
}

/// The build id in a program's first frame, which is laid out alike in every build: the string's
/// index (16 bits), the time (64 bits), then version, time of day and build id as texts, each behind
/// its length (32 bits).
pub fn announced_build(frame: &[u8]) -> Option<&str> {
    let mut rest = frame.get(2 + 8..)?;
    let mut texts = [""; 3];
    for text in &mut texts {
        let (length, behind) = rest.split_first_chunk()?;
        let (bytes, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        *text = std::str::from_utf8(bytes).ok()?;
        // The encoding may add zeros to the end.
        rest = behind;
    }
    let [_version, _time, build] = texts;
    let is_build = build.len() >= 16 && build.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_build && rest.iter().all(|byte| *byte == 0)).then_some(build)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn frames(parts: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut splitter, mut frames) = (Splitter::default(), Vec::new());
        for part in parts {
            let each = |frame: &[u8]| {
                frames.push(frame.to_vec());
                Ok::<_, Infallible>(())
            };
            splitter.take(part, each).unwrap();
        }
        frames
    }

    #[test]
    fn zeros_part_frames_and_the_first_whole_one_begins_behind_a_zero() {
        assert_eq!(frames(&[&[0, 1, 2, 0, 0, 3, 0]]), [vec![1, 2], vec![3]]);
        assert_eq!(frames(&[&[9, 9, 0, 0, 1], &[2], &[0, 4]]), [[1, 2]]);
        assert_eq!(frames(&[&[9, 9]]), [[0_u8; 0]; 0]);
    }

    #[test]
    fn what_never_ends_is_forgotten() {
        let noise = [7; MAX_FRAME + 10];
        assert_eq!(frames(&[&[0], &noise, &[0, 1, 0]]), [[1]]);
    }

    #[test]
    fn an_error_stops_the_frames() {
        let mut splitter = Splitter::default();
        let mut seen = 0;
        let result = splitter.take(&[0, 1, 0, 2, 0], |_| {
            seen += 1;
            Err("full")
        });
        assert_eq!((result, seen), (Err("full"), 1));
    }

    /// Examples of the encoding's description, <https://github.com/Dirbaio/rzcobs>.
    #[test]
    fn the_encoding_is_undone() {
        // Seven bytes, the second and the last of them zero.
        assert_eq!(decoded(&[1, 3, 4, 5, 6, 0b100_0010]).unwrap(), [1, 0, 3, 4, 5, 6, 0]);
        assert_eq!(decoded(&[0x7f]).unwrap(), [0; 7]);
        assert_eq!(decoded(&[1, 2, 3, 4, 5, 6, 7, 0x80]).unwrap(), [1, 2, 3, 4, 5, 6, 7, 0]);
        let long: Vec<u8> = (1..=134).collect();
        assert_eq!(decoded(&[&long[..], &[0xff]].concat()).unwrap(), long);
        assert_eq!(decoded(&[1, 2, 0x80]), None);
        assert_eq!(decoded(&[]), Some(Vec::new()));
    }

    fn first_frame(texts: &[&str]) -> Vec<u8> {
        let mut frame = vec![5, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for text in texts {
            frame.extend((text.len() as u32).to_le_bytes());
            frame.extend(text.as_bytes());
        }
        frame
    }

    #[test]
    fn the_first_frame_tells_the_build() {
        let build = "0123456789abcdef0123456789abcdef01234567";
        let mut frame = first_frame(&["0.1.0", "2026-01-01T00:00:00Z", build]);
        assert_eq!(announced_build(&frame), Some(build));
        frame.extend([0, 0]);
        assert_eq!(announced_build(&frame), Some(build));
        frame.push(1);
        assert_eq!(announced_build(&frame), None);
        assert_eq!(announced_build(&first_frame(&["0.1.0", "2026", "not a build id..."])), None);
        assert_eq!(announced_build(&first_frame(&["0.1.0", build])), None);
        assert_eq!(announced_build(&first_frame(&["0.1.0", "2026", "abcd"])), None);
        let mut damaged = first_frame(&["0.1.0", "2026", build]);
        damaged[10] = 0xff;
        assert_eq!(announced_build(&damaged), None);
    }
}
