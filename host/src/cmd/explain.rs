//! `host explain`: reference Grad-CAM by autograd, as a picture.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use models::arch::Architecture;
use models::cam;
use models::label::Class;
use models::logits::likeliest;
use models::preprocess::{SIDE, input_from_radiograph};
use models::radiograph::Radiograph;
use tch::{Device, Tensor};

use crate::explain::grad_cam;
use crate::train::network::Network;
use crate::train::run::{Plan, WEIGHTS_FILE, fold_dir};

/// Compute reference Grad-CAM maps by autograd and write them as grey pictures.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Folder of a training run.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// The fold whose network is asked.
    #[arg(long, default_value_t = 0)]
    fold: usize,
    /// Class to explain [default: the likeliest].
    #[arg(long)]
    class: Option<Class>,
    /// Folder for the maps.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Pictures: PNG, JPEG or TIFF.
    #[arg(required = true)]
    images: Vec<PathBuf>,
}

/// Runs `host explain`.
///
/// # Errors
/// When a picture cannot be read or has no map.
pub fn run(args: ExplainArgs) -> anyhow::Result<()> {
    let plan = Plan::load(&args.run)?;
    let weights = fold_dir(&args.run, args.fold).join(WEIGHTS_FILE);
    let architecture = Architecture::new(plan.architecture);
    let map_side = architecture.cam_shape.side;
    let network = Network::load(architecture, &weights, Device::Cpu)?;
    fs::create_dir_all(&args.out)?;
    for path in &args.images {
        let bytes = fs::read(path).with_context(|| format!("{}", path.display()))?;
        let scan = Radiograph::decode(&bytes).with_context(|| format!("{}", path.display()))?;
        let side = i64::from(SIDE);
        let input =
            Tensor::from_slice(&input_from_radiograph(&scan).values).view([1, 1, side, side]);
        let likeliest = || -> anyhow::Result<Class> {
            let logits = grad_cam(&network, &input, Class::Normal)?.logits;
            logits.first_chunk().map(likeliest).context("fewer logits than classes")
        };
        let class = args.class.map_or_else(likeliest, Ok)?;
        let reference = grad_cam(&network, &input, class)?;
        let heat = reference.heat(class, map_side)?;
        let steps = heat.iter().map(|h| (h * 255.0 + 0.5) as u8).collect();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let out = args.out.join(format!("{stem}.{class}.png"));
        image::GrayImage::from_raw(SIDE, SIDE, steps)
            .context("a map of another size")?
            .save(&out)?;
        println!("{} {class} peak {:?} {}", stem, cam::peak(&heat), out.display());
    }
    Ok(())
}
