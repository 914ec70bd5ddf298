//! The Grayscale Softcopy Presentation State (PS3.3 A.33.1): the half-hot region outlined over
//! the source image, shown with the image's own window.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::contour::{self, Loop};
use super::dataset::{copy, decimal, put, put_all, put_floats, put_items, put_longs, put_short};
use super::modules::{self, Reference};
use super::{Heat, Kind, Scene, words};
use crate::dicom::source::{Image, Plane, Spacing, Tones, text};
use crate::overlay::CONTOUR;

/// Most points of one line: their bytes must fit a 16-bit length (PS3.5 section 7.1.2).
const MOST_POINTS: usize = 4000;
/// Most lines; a map of more is noise.
const MOST_LINES: usize = 256;
/// The layer's name.
const LAYER: &str = "SPINESIGHT";

/// The data set of the presentation state.
pub fn data_set(scene: &Scene<'_>, image: &Image, heat: &Heat) -> InMemDicomObject {
    let mut object = modules::common(scene, Kind::PresentationState);
    let reference = Reference::to_source(scene.source, image);
    identification(&mut object, scene);
    relationship(&mut object, &reference);
    modules::anatomy(&mut object, scene.source);
    grey_scale(&mut object, image);
    displayed_area(&mut object, scene, image, &reference);
    annotation(&mut object, scene, heat, &reference);
    object
}

/// Module presentation state identification (PS3.3 C.11.10).
fn identification(object: &mut InMemDicomObject, scene: &Scene<'_>) {
    let moment = modules::moment(scene);
    put(object, tags::CONTENT_LABEL, VR::CS, "SPINESIGHT");
    put(object, tags::CONTENT_DESCRIPTION, VR::LO, "Region of evidence, decision support");
    put(object, tags::CONTENT_CREATOR_NAME, VR::PN, "Spinesight^Board");
    put(object, tags::PRESENTATION_CREATION_DATE, VR::DA, &modules::date(&moment));
    put(object, tags::PRESENTATION_CREATION_TIME, VR::TM, &modules::time(&moment));
}

/// Module presentation state relationship (PS3.3 C.11.11).
fn relationship(object: &mut InMemDicomObject, reference: &Reference) {
    let mut series = InMemDicomObject::new_empty();
    put(&mut series, tags::SERIES_INSTANCE_UID, VR::UI, &reference.series);
    put_items(&mut series, tags::REFERENCED_IMAGE_SEQUENCE, vec![reference.image_item()]);
    put_items(object, tags::REFERENCED_SERIES_SEQUENCE, vec![series]);
}

/// Modules modality LUT (PS3.3 C.11.1), softcopy VOI LUT (C.11.8) and softcopy presentation LUT
/// (C.11.6). A presentation state replaces what the image says, so it repeats it.
fn grey_scale(object: &mut InMemDicomObject, image: &Image) {
    let details = &image.details;
    let has = |tag| details.get(tag).is_some();
    if has(tags::RESCALE_INTERCEPT) && has(tags::RESCALE_SLOPE) {
        put(object, tags::RESCALE_TYPE, VR::LO, "US");
        copy(object, details, &[tags::RESCALE_INTERCEPT, tags::RESCALE_SLOPE, tags::RESCALE_TYPE]);
    } else {
        copy(object, details, &[tags::MODALITY_LUT_SEQUENCE]);
    }
    let mut window = InMemDicomObject::new_empty();
    if let Some((centre, width)) =
        first(details, tags::WINDOW_CENTER).zip(first(details, tags::WINDOW_WIDTH))
    {
        put(&mut window, tags::WINDOW_CENTER, VR::DS, &centre);
        put(&mut window, tags::WINDOW_WIDTH, VR::DS, &width);
        copy(&mut window, details, &[tags::VOILUT_FUNCTION]);
    } else if let Some(table) = details.get(tags::VOILUT_SEQUENCE).and_then(|e| e.items()) {
        put_items(&mut window, tags::VOILUT_SEQUENCE, table.iter().take(1).cloned().collect());
    }
    if window.iter().next().is_some() {
        put_items(object, tags::SOFTCOPY_VOILUT_SEQUENCE, vec![window]);
    }
    let shape = if image.tones == Tones::DarkRises { "INVERSE" } else { "IDENTITY" };
    put(object, tags::PRESENTATION_LUT_SHAPE, VR::CS, shape);
}

/// The first of several values: a presentation state shows one view.
fn first(object: &InMemDicomObject, tag: Tag) -> Option<String> {
    let values = text(object, tag)?;
    let value = values.split('\\').next()?.trim();
    (!value.is_empty()).then(|| value.to_string())
}

/// Module displayed area (PS3.3 C.10.4): the whole image.
fn displayed_area(
    object: &mut InMemDicomObject,
    scene: &Scene<'_>,
    image: &Image,
    reference: &Reference,
) {
    let mut item = InMemDicomObject::new_empty();
    put_items(&mut item, tags::REFERENCED_IMAGE_SEQUENCE, vec![reference.image_item()]);
    let corner = [scene.source.columns as i32, scene.source.rows as i32];
    put_longs(&mut item, tags::DISPLAYED_AREA_TOP_LEFT_HAND_CORNER, &[1, 1]);
    put_longs(&mut item, tags::DISPLAYED_AREA_BOTTOM_RIGHT_HAND_CORNER, &corner);
    put(&mut item, tags::PRESENTATION_SIZE_MODE, VR::CS, "SCALE TO FIT");
    match &image.spacing {
        Some(Spacing { rows_columns, plane: Plane::Patient(_) }) => {
            let [down, across] = rows_columns.map(decimal);
            put_all(&mut item, tags::PRESENTATION_PIXEL_SPACING, VR::DS, &[&down, &across]);
        }
        other => {
            let [down, across] = other.as_ref().map_or([1, 1], |s| aspect(s.rows_columns));
            let (down, across) = (down.to_string(), across.to_string());
            put_all(&mut item, tags::PRESENTATION_PIXEL_ASPECT_RATIO, VR::IS, &[&down, &across]);
        }
    }
    put_items(object, tags::DISPLAYED_AREA_SELECTION_SEQUENCE, vec![item]);
}

/// Distances at the detector as whole numbers in the same proportion.
fn aspect([down, across]: [f64; 2]) -> [i32; 2] {
    if down == across {
        return [1, 1];
    }
    [down, across].map(|distance| (distance * 1e6).clamp(1.0, f64::from(i32::MAX)) as i32)
}

/// Modules graphic annotation (PS3.3 C.10.5) and graphic layer (C.10.7).
fn annotation(
    object: &mut InMemDicomObject,
    scene: &Scene<'_>,
    heat: &Heat,
    reference: &Reference,
) {
    let size = [scene.source.columns, scene.source.rows];
    let lines = contour::loops(heat, CONTOUR, size);
    let mut item = InMemDicomObject::new_empty();
    put_items(&mut item, tags::REFERENCED_IMAGE_SEQUENCE, vec![reference.image_item()]);
    put(&mut item, tags::GRAPHIC_LAYER, VR::CS, LAYER);
    put_items(&mut item, tags::TEXT_OBJECT_SEQUENCE, vec![label(scene)]);
    let graphics: Vec<_> = lines.iter().flat_map(pieces).take(MOST_LINES).map(graphic).collect();
    if !graphics.is_empty() {
        put_items(&mut item, tags::GRAPHIC_OBJECT_SEQUENCE, graphics);
    }
    put_items(object, tags::GRAPHIC_ANNOTATION_SEQUENCE, vec![item]);
    let mut layer = InMemDicomObject::new_empty();
    put(&mut layer, tags::GRAPHIC_LAYER, VR::CS, LAYER);
    put(&mut layer, tags::GRAPHIC_LAYER_ORDER, VR::IS, "1");
    put(&mut layer, tags::GRAPHIC_LAYER_DESCRIPTION, VR::LO, "Region of evidence and verdict");
    put_items(object, tags::GRAPHIC_LAYER_SEQUENCE, vec![layer]);
}

/// A line in pieces short enough to be stored, each starting where the one before ends.
fn pieces(line: &Loop) -> impl Iterator<Item = &[[f32; 2]]> {
    let starts = (0..line.len().saturating_sub(1)).step_by(MOST_POINTS - 1);
    starts.map(|start| &line[start..(start + MOST_POINTS).min(line.len())])
}

fn graphic(points: &[[f32; 2]]) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    put(&mut item, tags::GRAPHIC_ANNOTATION_UNITS, VR::CS, "PIXEL");
    put_short(&mut item, tags::GRAPHIC_DIMENSIONS, 2);
    put_short(&mut item, tags::NUMBER_OF_GRAPHIC_POINTS, points.len() as u16);
    put_floats(&mut item, tags::GRAPHIC_DATA, points.as_flattened());
    put(&mut item, tags::GRAPHIC_TYPE, VR::CS, "POLYLINE");
    if points.first() == points.last() {
        put(&mut item, tags::GRAPHIC_FILLED, VR::CS, "N");
    }
    item
}

/// The verdict in the displayed area's upper left corner.
fn label(scene: &Scene<'_>) -> InMemDicomObject {
    let record = &scene.judged.record;
    let verdict = format!("{}: {}", words::verdict(record), words::finding(record));
    let mut item = InMemDicomObject::new_empty();
    put(&mut item, tags::BOUNDING_BOX_ANNOTATION_UNITS, VR::CS, "DISPLAY");
    put(
        &mut item,
        tags::UNFORMATTED_TEXT_VALUE,
        VR::ST,
        &format!("{verdict}\r\n{}", words::NOTICE),
    );
    put_floats(&mut item, tags::BOUNDING_BOX_TOP_LEFT_HAND_CORNER, &[0.02, 0.02]);
    put_floats(&mut item, tags::BOUNDING_BOX_BOTTOM_RIGHT_HAND_CORNER, &[0.7, 0.1]);
    put(&mut item, tags::BOUNDING_BOX_TEXT_HORIZONTAL_JUSTIFICATION, VR::CS, "LEFT");
    item
}
