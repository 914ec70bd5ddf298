//! Is this a picture the model may judge? Checked before its opinion counts.

use models::preprocess::{Input, SIDE};

/// Smallest luminance range, of 65,535, between the darkest and the brightest half percent.
const MIN_CONTRAST: u16 = 65_535 / 50;
/// Fewest of the input's rows or columns that the letterboxed picture may fill.
const MIN_FRAME: u32 = SIDE / 8;

/// Reasons, in plain sentences, why a human must look instead; none when the picture is usable.
pub fn concerns(input: &Input) -> Vec<String> {
    let mut concerns = Vec::new();
    if input.exposure.white.saturating_sub(input.exposure.black) < MIN_CONTRAST {
        concerns.push("The picture has almost no contrast.".to_string());
    }
    if input.frame.width.min(input.frame.height) < MIN_FRAME {
        concerns.push("The picture is too long and narrow to judge.".to_string());
    }
    concerns
}

#[cfg(test)]
mod tests {
    use super::*;
    use models::preprocess::input_from_radiograph;
    use models::radiograph::Radiograph;

    fn concerns_of(width: u32, height: u32, step: u32) -> Vec<String> {
        let samples = (0..width * height).map(|i| (i % 64 * step) as u16).collect();
        let scan = Radiograph::new(width, height, samples).expect("in bounds");
        concerns(&input_from_radiograph(&scan))
    }

    #[test]
    fn usable_flat_and_narrow_pictures() {
        assert_eq!(concerns_of(200, 300, 900), Vec::<String>::new());
        assert!(concerns_of(200, 300, 1)[0].contains("contrast"));
        assert!(concerns_of(48, 3000, 900)[0].contains("narrow"));
    }
}
