//! The Secondary Capture image (PS3.3 A.8): the overlay with the verdict burnt in below.

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use image::RgbImage;

use super::code::{Code, dcm, ours};
use super::dataset::{ascii, copy, decimal, put, put_all, put_items, put_short};
use super::modules::{self, Reference};
use super::{Kind, ResultError, Scene, caption};
use crate::dicom::source::{Calibration, Image, Loss, Plane};

/// The data set of the capture.
///
/// # Errors
/// [`ResultError::OverlaySize`] when the picture has no or too many pixels.
pub fn data_set(scene: &Scene<'_>) -> Result<InMemDicomObject, ResultError> {
    let picture = caption::captioned(scene)?;
    let mut object = modules::common(scene, Kind::SecondaryCapture);
    equipment(&mut object, scene);
    general_image(&mut object, scene);
    modules::anatomy(&mut object, scene.source);
    if let Some(image) = &scene.source.image {
        derivation(&mut object, scene, image);
        spacing(&mut object, scene, image);
    }
    pixels(&mut object, picture)?;
    Ok(object)
}

/// Modules SC equipment (PS3.3 C.8.6.1) and SC image (C.8.6.2).
fn equipment(object: &mut InMemDicomObject, scene: &Scene<'_>) {
    let device = scene.device;
    put(object, tags::CONVERSION_TYPE, VR::CS, "WSD");
    put(object, tags::SECONDARY_CAPTURE_DEVICE_ID, VR::LO, &ascii(&device.serial, 64));
    let maker = ascii(&device.manufacturer, 64);
    put(object, tags::SECONDARY_CAPTURE_DEVICE_MANUFACTURER, VR::LO, &maker);
    let model = ascii(&device.model, 64);
    put(object, tags::SECONDARY_CAPTURE_DEVICE_MANUFACTURER_MODEL_NAME, VR::LO, &model);
    let software = ascii(&device.software, 64);
    put(object, tags::SECONDARY_CAPTURE_DEVICE_SOFTWARE_VERSIONS, VR::LO, &software);
    let moment = modules::moment(scene);
    put(object, tags::DATE_OF_SECONDARY_CAPTURE, VR::DA, &modules::date(&moment));
    put(object, tags::TIME_OF_SECONDARY_CAPTURE, VR::TM, &modules::time(&moment));
}

/// Module general image (PS3.3 C.7.6.1).
fn general_image(object: &mut InMemDicomObject, scene: &Scene<'_>) {
    let moment = modules::moment(scene);
    put(object, tags::CONTENT_DATE, VR::DA, &modules::date(&moment));
    put(object, tags::CONTENT_TIME, VR::TM, &modules::time(&moment));
    put_all(object, tags::IMAGE_TYPE, VR::CS, &["DERIVED", "SECONDARY"]);
    put(object, tags::PATIENT_ORIENTATION, VR::CS, "");
    if let Some(image) = &scene.source.image {
        copy(object, &image.details, &[tags::PATIENT_ORIENTATION]);
    }
    put(object, tags::BURNED_IN_ANNOTATION, VR::CS, "YES");
    put(object, tags::RECOGNIZABLE_VISUAL_FEATURES, VR::CS, "NO");
    loss(object, &scene.source.loss);
}

fn loss(object: &mut InMemDicomObject, loss: &Loss) {
    match loss {
        Loss::Unknown => {}
        Loss::Never => put(object, tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "00"),
        Loss::Lossy { ratios, methods } => {
            put(object, tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "01");
            let ratios: Vec<String> = ratios.iter().map(|&r| decimal(r)).collect();
            let ratios: Vec<&str> = ratios.iter().map(String::as_str).collect();
            put_all(object, tags::LOSSY_IMAGE_COMPRESSION_RATIO, VR::DS, &ratios);
            let methods: Vec<&str> = methods.iter().map(String::as_str).collect();
            if !methods.is_empty() {
                put_all(object, tags::LOSSY_IMAGE_COMPRESSION_METHOD, VR::CS, &methods);
            }
        }
    }
}

/// From what, and how, the picture was made.
fn derivation(object: &mut InMemDicomObject, scene: &Scene<'_>, image: &Image) {
    let (overlay, source) = (&scene.judged.overlay, scene.source);
    let mut codes: Vec<Code> = Vec::new();
    if overlay.dimensions() != (source.columns, source.rows) {
        codes.push(dcm("113085", "Spatial resampling"));
    }
    let described = if scene.judged.heat.is_some() {
        codes.push(dcm("113042", "Pixel by pixel addition"));
        "Class activation map in colour over the scan, verdict burnt in below. Not for diagnosis."
    } else {
        "The scan in grey, verdict burnt in below. Not for diagnosis."
    };
    codes.push(ours("CAPTIONED", "Verdict burnt in below the picture"));
    put(object, tags::DERIVATION_DESCRIPTION, VR::ST, described);
    let codes = codes.into_iter().map(Code::item).collect();
    put_items(object, tags::DERIVATION_CODE_SEQUENCE, codes);
    let reference = Reference::to_source(source, image);
    let mut item = reference.image_item();
    let purpose = dcm("121322", "Source image for image processing operation");
    put_items(&mut item, tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, vec![purpose.item()]);
    put_items(object, tags::SOURCE_IMAGE_SEQUENCE, vec![item]);
    modules::references(object, &reference);
}

/// Distances in the patient scale with the picture. Distances at the detector have no place in
/// this kind of object, and would be mistaken for distances in the patient.
fn spacing(object: &mut InMemDicomObject, scene: &Scene<'_>, image: &Image) {
    let Some(spacing) = &image.spacing else { return };
    let Plane::Patient(calibration) = &spacing.plane else { return };
    let (columns, rows) = scene.judged.overlay.dimensions();
    let [down, across] = spacing.rows_columns;
    let down = decimal(down * f64::from(scene.source.rows) / f64::from(rows));
    let across = decimal(across * f64::from(scene.source.columns) / f64::from(columns));
    put_all(object, tags::PIXEL_SPACING, VR::DS, &[&down, &across]);
    let (kind, description) = match calibration {
        None => return,
        Some(Calibration::Geometry) => ("GEOMETRY", "As calibrated in the source image"),
        Some(Calibration::Fiducial) => ("FIDUCIAL", "As calibrated in the source image"),
    };
    put(object, tags::PIXEL_SPACING_CALIBRATION_TYPE, VR::CS, kind);
    put(object, tags::PIXEL_SPACING_CALIBRATION_DESCRIPTION, VR::LO, description);
}

/// Module image pixel (PS3.3 C.7.6.3).
fn pixels(object: &mut InMemDicomObject, picture: RgbImage) -> Result<(), ResultError> {
    let (columns, rows) = picture.dimensions();
    let side = |side: u32| u16::try_from(side).map_err(|_| ResultError::OverlaySize(columns, rows));
    put_short(object, tags::SAMPLES_PER_PIXEL, 3);
    put(object, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "RGB");
    put_short(object, tags::PLANAR_CONFIGURATION, 0);
    put_short(object, tags::ROWS, side(rows)?);
    put_short(object, tags::COLUMNS, side(columns)?);
    put_short(object, tags::BITS_ALLOCATED, 8);
    put_short(object, tags::BITS_STORED, 8);
    put_short(object, tags::HIGH_BIT, 7);
    put_short(object, tags::PIXEL_REPRESENTATION, 0);
    let mut samples = picture.into_raw();
    if samples.len() % 2 == 1 {
        samples.push(0);
    }
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::U8(samples.into())));
    Ok(())
}
