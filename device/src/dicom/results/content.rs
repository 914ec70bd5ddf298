//! Content items of a structured report (PS3.3 C.17.3).

use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::code::Code;
use super::dataset::{decimal, put, put_floats, put_items};
use super::modules::Reference;

/// How an item relates to the one it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `CONTAINS`.
    Contains,
    /// `HAS CONCEPT MOD`.
    ConceptModifier,
    /// `HAS OBS CONTEXT`.
    ObservationContext,
    /// `HAS ACQ CONTEXT`.
    AcquisitionContext,
    /// `SELECTED FROM`.
    SelectedFrom,
}

/// Puts a container's own attributes; `template` is its number in PS3.16, where it has one.
pub fn put_container(
    object: &mut InMemDicomObject,
    name: Code,
    template: Option<&str>,
    content: Vec<InMemDicomObject>,
) {
    put(object, tags::VALUE_TYPE, VR::CS, "CONTAINER");
    put_items(object, tags::CONCEPT_NAME_CODE_SEQUENCE, vec![name.item()]);
    put(object, tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE");
    if let Some(number) = template {
        let mut item = InMemDicomObject::new_empty();
        put(&mut item, tags::MAPPING_RESOURCE, VR::CS, "DCMR");
        put(&mut item, tags::TEMPLATE_IDENTIFIER, VR::CS, number);
        put_items(object, tags::CONTENT_TEMPLATE_SEQUENCE, vec![item]);
    }
    put_items(object, tags::CONTENT_SEQUENCE, content);
}

/// A container inside another.
pub fn container(
    name: Code,
    template: Option<&str>,
    content: Vec<InMemDicomObject>,
) -> InMemDicomObject {
    let mut item = related(Relation::Contains);
    put_container(&mut item, name, template, content);
    item
}

/// A coded value.
pub fn code(relation: Relation, name: Code, value: Code) -> InMemDicomObject {
    coded(relation, name, value.item())
}

/// A coded value, given as the item of a code sequence.
pub fn coded(relation: Relation, name: Code, value: InMemDicomObject) -> InMemDicomObject {
    let mut item = named(relation, "CODE", name);
    put_items(&mut item, tags::CONCEPT_CODE_SEQUENCE, vec![value]);
    item
}

/// Text.
pub fn text(relation: Relation, name: Code, text: &str) -> InMemDicomObject {
    let mut item = named(relation, "TEXT", name);
    put(&mut item, tags::TEXT_VALUE, VR::UT, text);
    item
}

/// A UID.
pub fn uid(relation: Relation, name: Code, uid: &str) -> InMemDicomObject {
    let mut item = named(relation, "UIDREF", name);
    put(&mut item, tags::UID, VR::UI, uid);
    item
}

/// A finite number.
pub fn number(relation: Relation, name: Code, value: f64, unit: Code) -> InMemDicomObject {
    let mut item = named(relation, "NUM", name);
    let mut measured = InMemDicomObject::new_empty();
    put(&mut measured, tags::NUMERIC_VALUE, VR::DS, &decimal(value));
    put_items(&mut measured, tags::MEASUREMENT_UNITS_CODE_SEQUENCE, vec![unit.item()]);
    put_items(&mut item, tags::MEASURED_VALUE_SEQUENCE, vec![measured]);
    item
}

/// A reference to an image.
pub fn image(relation: Relation, reference: &Reference) -> InMemDicomObject {
    let mut item = related(relation);
    put(&mut item, tags::VALUE_TYPE, VR::CS, "IMAGE");
    put_items(&mut item, tags::REFERENCED_SOP_SEQUENCE, vec![reference.image_item()]);
    item
}

/// A point of an image, as column and row from its upper left corner, in pixels.
pub fn point(name: Code, place: [f32; 2], of: &Reference) -> InMemDicomObject {
    let mut item = named(Relation::Contains, "SCOORD", name);
    put_floats(&mut item, tags::GRAPHIC_DATA, &place);
    put(&mut item, tags::GRAPHIC_TYPE, VR::CS, "POINT");
    put_items(&mut item, tags::CONTENT_SEQUENCE, vec![image(Relation::SelectedFrom, of)]);
    item
}

fn named(relation: Relation, kind: &str, name: Code) -> InMemDicomObject {
    let mut item = related(relation);
    put(&mut item, tags::VALUE_TYPE, VR::CS, kind);
    put_items(&mut item, tags::CONCEPT_NAME_CODE_SEQUENCE, vec![name.item()]);
    item
}

fn related(relation: Relation) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    let name = match relation {
        Relation::Contains => "CONTAINS",
        Relation::ConceptModifier => "HAS CONCEPT MOD",
        Relation::ObservationContext => "HAS OBS CONTEXT",
        Relation::AcquisitionContext => "HAS ACQ CONTEXT",
        Relation::SelectedFrom => "SELECTED FROM",
    };
    put(&mut item, tags::RELATIONSHIP_TYPE, VR::CS, name);
    item
}
