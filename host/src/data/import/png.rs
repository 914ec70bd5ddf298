//! A radiograph as a PNG file with nothing in it but the picture.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageResult};
use models::radiograph::Radiograph;

/// Lossless grey PNG: 8 bits a sample where that holds every sample, else 16.
///
/// # Errors
/// What the encoder reports.
pub(super) fn png_from_picture(picture: &Radiograph) -> ImageResult<Vec<u8>> {
    let samples = picture.samples();
    let narrow = samples.iter().all(|v| v % 257 == 0);
    let (bytes, depth): (Vec<u8>, _) = if narrow {
        (samples.iter().map(|v| (v / 257) as u8).collect(), ExtendedColorType::L8)
    } else {
        (samples.iter().flat_map(|v| v.to_ne_bytes()).collect(), ExtendedColorType::L16)
    };
    let mut png = Vec::new();
    PngEncoder::new(&mut png).write_image(&bytes, picture.width(), picture.height(), depth)?;
    Ok(png)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_depths_come_back_sample_for_sample() {
        for factor in [257, 1] {
            let samples = (0..64 * 50u32).map(|i| (i % 251 * factor) as u16).collect();
            let picture = Radiograph::new(64, 50, samples).expect("picture");
            let png = png_from_picture(&picture).expect("encode");
            let depth = if factor == 257 { 8 } else { 16 };
            assert_eq!(png[24], depth, "bit depth in the header chunk");
            assert_eq!(Radiograph::decode(&png).expect("decode"), picture);
        }
    }
}
