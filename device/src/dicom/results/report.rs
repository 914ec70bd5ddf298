//! The structured report (Comprehensive SR, PS3.3 A.35.3) after TID 1500, Measurement Report.
//!
//! A referred scan has probabilities and reasons, but no finding: a human makes it.

use dicom_core::{DataDictionary, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use dicom_object::InMemDicomObject;
use models::label::Class;

use super::code::{
    Code, ENGLISH, QUALITATIVE, dcm, finding, ours, probability, sct, ucum, verdict,
};
use super::content::Relation::{AcquisitionContext, ConceptModifier, Contains, ObservationContext};
use super::content::{code, coded, container, image, number, point, put_container, text, uid};
use super::dataset::{ascii, complete, copy, put, put_items};
use super::modules::{self, Reference};
use super::{Kind, Scene, words};
use crate::dicom::source::{self, Image, Plane};
use crate::record::Verdict;

/// Most reasons that a report lists.
const REASONS: usize = 32;

/// The data set of the report.
pub fn data_set(scene: &Scene<'_>) -> InMemDicomObject {
    let mut object = modules::common(scene, Kind::Report);
    let judged = Judged::of(scene);
    series(&mut object);
    document(&mut object, scene, &judged.reference);
    let title = dcm("126000", "Imaging Measurement Report");
    put_container(&mut object, title, Some("1500"), content(scene, &judged));
    object
}

/// The image that the report speaks of: the source, or the capture where no archive knows the
/// source.
struct Judged {
    reference: Reference,
    /// Columns and rows.
    size: [u32; 2],
}

impl Judged {
    fn of(scene: &Scene<'_>) -> Self {
        let source = scene.source;
        match &source.image {
            Some(image) => Self {
                reference: Reference::to_source(source, image),
                size: [source.columns, source.rows],
            },
            None => Self {
                reference: Reference::to_capture(scene),
                size: scene.judged.overlay.dimensions().into(),
            },
        }
    }
}

/// Module SR document series (PS3.3 C.17.1).
fn series(object: &mut InMemDicomObject) {
    put_items(object, tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, vec![]);
}

/// Module SR document general (PS3.3 C.17.2).
fn document(object: &mut InMemDicomObject, scene: &Scene<'_>, reference: &Reference) {
    let moment = modules::moment(scene);
    put(object, tags::CONTENT_DATE, VR::DA, &modules::date(&moment));
    put(object, tags::CONTENT_TIME, VR::TM, &modules::time(&moment));
    put(object, tags::PRELIMINARY_FLAG, VR::CS, "PRELIMINARY");
    put(object, tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED");
    if scene.judged.record.verdict == Verdict::Refer {
        put(object, tags::COMPLETION_FLAG, VR::CS, "PARTIAL");
        let why = "The finding is left to a human reader.";
        put(object, tags::COMPLETION_FLAG_DESCRIPTION, VR::LO, why);
    } else {
        put(object, tags::COMPLETION_FLAG, VR::CS, "COMPLETE");
    }
    put_items(object, tags::AUTHOR_OBSERVER_SEQUENCE, vec![author(scene)]);
    put_items(object, tags::PERFORMED_PROCEDURE_CODE_SEQUENCE, vec![]);
    if let Some(request) = scene.source.image.as_ref().and_then(|i| request(scene, i)) {
        put_items(object, tags::REFERENCED_REQUEST_SEQUENCE, vec![request]);
    }
    let mut series = InMemDicomObject::new_empty();
    put(&mut series, tags::SERIES_INSTANCE_UID, VR::UI, &reference.series);
    put_items(&mut series, tags::REFERENCED_SOP_SEQUENCE, vec![reference.item()]);
    let mut study = InMemDicomObject::new_empty();
    put(&mut study, tags::STUDY_INSTANCE_UID, VR::UI, &scene.source.study);
    put_items(&mut study, tags::REFERENCED_SERIES_SEQUENCE, vec![series]);
    put_items(object, tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, vec![study]);
}

/// The board as author (PS3.3 table C.17-3b).
fn author(scene: &Scene<'_>) -> InMemDicomObject {
    let device = scene.device;
    let mut item = InMemDicomObject::new_empty();
    put(&mut item, tags::OBSERVER_TYPE, VR::CS, "DEV");
    put(&mut item, tags::STATION_NAME, VR::SH, &ascii(&device.station, 16));
    put(&mut item, tags::DEVICE_UID, VR::UI, &board(scene));
    put(&mut item, tags::MANUFACTURER, VR::LO, &ascii(&device.manufacturer, 64));
    put(&mut item, tags::MANUFACTURER_MODEL_NAME, VR::LO, &ascii(&device.model, 64));
    put_items(&mut item, tags::INSTITUTION_CODE_SEQUENCE, vec![]);
    put(&mut item, tags::INSTITUTION_NAME, VR::LO, "");
    item
}

/// The UID of the board.
fn board(scene: &Scene<'_>) -> String {
    let device = scene.device;
    super::uid::derived(&["device", &device.manufacturer, &device.model, &device.serial])
}

/// The request that the source fulfils (PS3.3 table C.17-3), where it names one.
fn request(scene: &Scene<'_>, image: &Image) -> Option<InMemDicomObject> {
    let requests = image.details.get(tags::REQUEST_ATTRIBUTES_SEQUENCE)?.items()?;
    let asked = requests.first()?;
    let mut item = InMemDicomObject::new_empty();
    put(&mut item, tags::STUDY_INSTANCE_UID, VR::UI, &scene.source.study);
    let context = &scene.source.context;
    copy(&mut item, context, &[tags::ACCESSION_NUMBER, tags::REFERENCED_STUDY_SEQUENCE]);
    let copied = [
        tags::ACCESSION_NUMBER,
        tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST,
        tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST,
        tags::REQUESTED_PROCEDURE_ID,
        tags::REQUESTED_PROCEDURE_DESCRIPTION,
        tags::REQUESTED_PROCEDURE_CODE_SEQUENCE,
    ];
    copy(&mut item, asked, &copied);
    for tag in copied {
        let vr = StandardDataDictionary.by_tag(tag).map_or(VR::LO, |e| e.vr.relaxed());
        if vr != VR::SQ {
            complete(&mut item, &[(tag, vr)]);
        }
    }
    for tag in [tags::REFERENCED_STUDY_SEQUENCE, tags::REQUESTED_PROCEDURE_CODE_SEQUENCE] {
        if item.get(tag).is_none() {
            put_items(&mut item, tag, vec![]);
        }
    }
    Some(item)
}

/// What TID 1500 contains.
fn content(scene: &Scene<'_>, judged: &Judged) -> Vec<InMemDicomObject> {
    let mut items = vec![code(
        ConceptModifier,
        dcm("121049", "Language of Content Item and Descendants"),
        ENGLISH,
    )];
    items.extend(observer(scene));
    items.push(coded(ConceptModifier, dcm("121058", "Procedure reported"), procedure(scene)));
    items.push(library(scene, judged));
    let group = measurement_group(scene, judged);
    items.push(container(dcm("126010", "Imaging Measurements"), None, vec![group]));
    let notice = text(Contains, ours("NOTICE", "Notice"), words::NOTICE);
    items.push(container(QUALITATIVE, None, vec![notice]));
    items
}

/// Observation context: a device (TID 1002 and TID 1004).
fn observer(scene: &Scene<'_>) -> Vec<InMemDicomObject> {
    let device = scene.device;
    let mut items = vec![
        code(ObservationContext, dcm("121005", "Observer Type"), dcm("121007", "Device")),
        uid(ObservationContext, dcm("121012", "Device Observer UID"), &board(scene)),
    ];
    for (value, meaning, content) in [
        ("121013", "Device Observer Name", &device.station),
        ("121014", "Device Observer Manufacturer", &device.manufacturer),
        ("121015", "Device Observer Model Name", &device.model),
        ("121016", "Device Observer Serial Number", &device.serial),
    ] {
        let content = ascii(content, 64);
        if !content.is_empty() {
            items.push(text(ObservationContext, dcm(value, meaning), &content));
        }
    }
    items
}

/// The procedure that made the source, or plain radiography where it does not say.
fn procedure(scene: &Scene<'_>) -> InMemDicomObject {
    let coded = first_code(&scene.source.context, tags::PROCEDURE_CODE_SEQUENCE);
    coded.unwrap_or_else(|| sct("168537006", "Plain radiography").item())
}

/// The first complete code of a sequence, reduced to what makes it a code.
fn first_code(object: &InMemDicomObject, sequence: dicom_core::Tag) -> Option<InMemDicomObject> {
    let basic = [tags::CODE_VALUE, tags::CODING_SCHEME_DESIGNATOR, tags::CODE_MEANING];
    let stored = object.get(sequence)?.items()?.first()?;
    if basic.iter().any(|&tag| source::text(stored, tag).is_none()) {
        return None;
    }
    let mut item = InMemDicomObject::new_empty();
    copy(&mut item, stored, &basic);
    copy(&mut item, stored, &[tags::CODING_SCHEME_VERSION]);
    Some(item)
}

/// Which image was judged, and what is known about it (TID 1600 to TID 1603).
fn library(scene: &Scene<'_>, judged: &Judged) -> InMemDicomObject {
    let pixels = ucum("{pixels}", "Pixels");
    let [columns, rows] = judged.size;
    let mut items = Vec::new();
    if let Some(modality) = scene.source.image.as_ref().and_then(modality) {
        items.push(code(AcquisitionContext, dcm("121139", "Modality"), modality));
    }
    items.push(coded(AcquisitionContext, dcm("123014", "Target Region"), region(scene)));
    let details = scene.source.image.as_ref().map(|image| &image.details);
    if let Some(view) = details.and_then(|d| first_code(d, tags::VIEW_CODE_SEQUENCE)) {
        items.push(coded(AcquisitionContext, dcm("111031", "Image View"), view));
    }
    for (name, count) in
        [(dcm("110910", "Pixel Data Rows"), rows), (dcm("110911", "Pixel Data Columns"), columns)]
    {
        items.push(number(AcquisitionContext, name, count.into(), pixels));
    }
    items.extend(spacing(scene));
    items.push(image(Contains, &judged.reference));
    let group = container(dcm("126200", "Image Library Group"), None, items);
    container(dcm("111028", "Image Library"), Some("1600"), vec![group])
}

/// Pixel distances in the patient, where they are known.
fn spacing(scene: &Scene<'_>) -> Vec<InMemDicomObject> {
    let Some(spacing) = scene.source.image.as_ref().and_then(|i| i.spacing.as_ref()) else {
        return Vec::new();
    };
    if spacing.plane == Plane::Detector {
        return Vec::new();
    }
    let [down, across] = spacing.rows_columns;
    let named = [
        (dcm("111026", "Horizontal Pixel Spacing"), across),
        (dcm("111066", "Vertical Pixel Spacing"), down),
    ];
    let millimetre = ucum("mm", "millimeter");
    named.map(|(name, value)| number(AcquisitionContext, name, value, millimetre)).into()
}

/// The modality as a concept (CID 29), for those that make projection images.
fn modality(image: &Image) -> Option<Code> {
    match image.modality.as_deref()? {
        "CR" => Some(dcm("CR", "Computed Radiography")),
        "DX" => Some(dcm("DX", "Digital Radiography")),
        "OT" => Some(dcm("OT", "Other Modality")),
        "RF" => Some(dcm("RF", "Radiofluoroscopy")),
        "RG" => Some(dcm("RG", "Radiographic imaging")),
        _ => None,
    }
}

/// The part of the body that the source names, or the spine.
fn region(scene: &Scene<'_>) -> InMemDicomObject {
    let image = scene.source.image.as_ref();
    let named = image.and_then(|i| first_code(&i.details, tags::ANATOMIC_REGION_SEQUENCE));
    named.unwrap_or_else(|| SPINE.item())
}

const SPINE: Code = sct("421060004", "Spine");

/// What the model says: TID 1410 where the hottest point is known, else TID 1501.
fn measurement_group(scene: &Scene<'_>, judged: &Judged) -> InMemDicomObject {
    let record = &scene.judged.record;
    let tracking = scene.uid(&scene.source.instance, "tracking");
    let mut items = vec![
        text(ObservationContext, dcm("112039", "Tracking Identifier"), "Spinesight verdict"),
        uid(ObservationContext, dcm("112040", "Tracking Unique Identifier"), &tracking),
    ];
    if let Some(found) = finding(record.verdict, record.class) {
        items.push(code(Contains, dcm("121071", "Finding"), found));
    }
    items.extend(algorithm(scene));
    items.push(code(ConceptModifier, sct("363698007", "Finding Site"), SPINE));
    let place = peak(scene, judged);
    if let Some(place) = place {
        items.push(point(dcm("111030", "Image Region"), place, &judged.reference));
    }
    for class in Class::ALL {
        let value = f64::from(record.probabilities.of(class));
        // A network that fails gives none; the reasons say so.
        if value.is_finite() {
            items.push(number(Contains, probability(class), value, ucum("{0:1}", "range: 0:1")));
        }
    }
    items.push(code(Contains, ours("VERDICT", "Verdict"), verdict(record.verdict)));
    let spoken = format!("{}: {}", words::verdict(record), words::finding(record));
    items.push(text(Contains, ours("SUMMARY", "Verdict in words"), &spoken));
    for reason in words::reasons(record, REASONS) {
        items.push(text(Contains, ours("REASON", "Reason"), &reason));
    }
    let template = if place.is_some() { "1410" } else { "1501" };
    container(dcm("125007", "Measurement Group"), Some(template), items)
}

/// The middle of the hottest pixel, in the image that the report speaks of.
fn peak(scene: &Scene<'_>, judged: &Judged) -> Option<[f32; 2]> {
    let [x, y] = scene.judged.record.cam.as_ref()?.peak_xy;
    let scan = [scene.source.columns, scene.source.rows];
    let inside = x < scan[0] && y < scan[1];
    let scaled = |at: u32, from: u32, to: u32| {
        ((f64::from(at) + 0.5) * f64::from(to) / f64::from(from)) as f32
    };
    inside.then(|| [scaled(x, scan[0], judged.size[0]), scaled(y, scan[1], judged.size[1])])
}

/// Which algorithm, with what (TID 4019).
fn algorithm(scene: &Scene<'_>) -> Vec<InMemDicomObject> {
    let record = &scene.judged.record;
    let name = ascii(&record.bundle.name, 1000);
    let version = ascii(&scene.device.software, 64);
    let digest = ascii(&record.bundle.digest, 200);
    let mut parameters = vec![format!("bundle manifest SHA-256 {digest}")];
    if let Some(cam) = &record.cam {
        parameters.push(format!(
            "map {}, layer {}",
            ascii(&cam.method, 64),
            ascii(&cam.layer, 200)
        ));
        parameters.push(format!("map SHA-256 {}", ascii(&cam.digest, 200)));
    }
    let mut items = vec![
        text(ConceptModifier, dcm("111001", "Algorithm Name"), &name),
        text(ConceptModifier, dcm("111003", "Algorithm Version"), &version),
    ];
    let parameter = dcm("111002", "Algorithm Parameters");
    items.extend(parameters.iter().map(|p| text(ConceptModifier, parameter, p)));
    items
}
