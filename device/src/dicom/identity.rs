//! Who made it: what the board calls itself on the wire and in files.

/// Implementation Class UID (PS3.7 annex D.3.3.2, PS3.10 section 7.1): derived from a random UUID,
/// as PS3.5 annex B.2 allows.
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.147480685741725714061219333730211569696";

/// Implementation Version Name: at most 16 characters.
pub const IMPLEMENTATION_VERSION_NAME: &str = "SPINESIGHT";

/// The one application context that DICOM has (PS3.7 annex A.2.1).
pub const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";

/// Whether a text is a UID (PS3.5 section 9.1): at most 64 digits and single dots.
pub fn is_uid(text: &str) -> bool {
    let component = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    text.len() <= 64 && text.split('.').all(component)
}

/// Whether a text is an application entity's title (PS3.5 section 6.2): 1 to 16 printable ASCII
/// characters without a backslash, with no space at either end.
pub fn is_ae_title(text: &str) -> bool {
    let printable = |b: u8| matches!(b, b' '..=b'~') && b != b'\\';
    (1..=16).contains(&text.len()) && text.trim() == text && text.bytes().all(printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ours_are_lawful() {
        assert!(is_uid(IMPLEMENTATION_CLASS_UID));
        assert!(is_uid(APPLICATION_CONTEXT));
        assert!(is_ae_title(IMPLEMENTATION_VERSION_NAME));
    }

    #[test]
    fn uids_hold_digits_and_single_dots() {
        for text in ["", ".", "1..2", "1.2.", "../1", "1.a", "1.2 ", &"1".repeat(65)] {
            assert!(!is_uid(text), "{text}");
        }
    }

    #[test]
    fn titles_are_short_and_printable() {
        for text in ["", "A\0", "A\\B", " A", "A\n", "\u{e9}", "ABCDEFGHIJKLMNOPQ"] {
            assert!(!is_ae_title(text), "{text:?}");
        }
        assert!(is_ae_title("XRAY ROOM 1"));
    }
}
