//! Whole-system tests: the workstation against the board, the board against independent peers.
//!
//! This library holds what the tests share.

pub mod archive;
pub mod board;
pub mod orthanc;

use std::io::Cursor;
use std::path::PathBuf;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use host::phantom::{Phantom, PhantomSpec, dicom, render};
use image::{DynamicImage, ImageFormat};
use models::label::Class;
use models::preprocess::{Input, SIDE, input_from_radiograph};
use models::radiograph::Radiograph;
use tch::Tensor;

/// The bundles that ship with the repository.
pub fn zoo() -> Vec<PathBuf> {
    let zoo = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/zoo"));
    let entries = std::fs::read_dir(&zoo).map(|dir| dir.filter_map(Result::ok)).into_iter();
    let mut bundles: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    bundles.retain(|dir| dir.join("bundle.toml").exists());
    bundles.sort();
    bundles
}

/// A small synthetic X-ray of a class.
pub fn phantom(class: Class, seed: u64) -> Radiograph {
    render(&PhantomSpec { class, seed, width: 224, height: 400 }).expect("renders").image
}

/// A synthetic X-ray of the least cost.
pub fn small_phantom() -> Phantom {
    let spec = PhantomSpec { class: Class::Scoliosis, seed: 3, width: 96, height: 144 };
    render(&spec).expect("renders")
}

/// [`small_phantom`] as a DICOM file, explicit little endian.
pub fn dicom_file() -> Vec<u8> {
    dicom::encode(&small_phantom(), 1).expect("encodes")
}

/// So many different scans of the least cost, as DICOM files: the same picture under other names.
pub fn scans(count: usize) -> Vec<Vec<u8>> {
    let phantom = small_phantom();
    (0..count).map(|number| scan(&phantom, number)).collect()
}

/// A scan whose SOP Instance UID is [`uid`] of a number, and whose patient is marked by it.
pub fn scan(phantom: &Phantom, number: usize) -> Vec<u8> {
    let bytes = dicom::encode(phantom, number).expect("encodes");
    let mut file = dicom_object::from_reader(&bytes[..]).expect("reads");
    let uid = uid(number);
    file.put_str(tags::SOP_INSTANCE_UID, VR::UI, uid.as_str());
    file.update_meta(|meta| meta.media_storage_sop_instance_uid = uid);
    let mut bytes = Vec::new();
    file.write_all(&mut bytes).expect("writes");
    bytes
}

/// The SOP Instance UID of a scan.
pub fn uid(number: usize) -> String {
    format!("2.25.4711.{number}")
}

/// Preprocessed phantoms, the classes in turn.
pub fn phantom_inputs(count: usize) -> Vec<Input> {
    let class = |n: usize| Class::ALL[n % Class::ALL.len()];
    (0..count).map(|n| input_from_radiograph(&phantom(class(n), n as u64))).collect()
}

/// Inputs as one tensor `[count, 1, SIDE, SIDE]`.
pub fn tensor_from_inputs(inputs: &[Input]) -> Tensor {
    let values: Vec<f32> = inputs.iter().flat_map(|i| i.values.iter().copied()).collect();
    Tensor::from_slice(&values).view([inputs.len() as i64, 1, i64::from(SIDE), i64::from(SIDE)])
}

/// A picture as the bytes of a file.
pub fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).expect("encodes");
    bytes.into_inner()
}
