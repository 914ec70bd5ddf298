//! `host quantize`: what int8 costs a trained fold, before it becomes a bundle.

use anyhow::bail;
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;

use super::trained::TrainedArgs;
use crate::evaluate::evaluate;
use crate::evaluate::prediction::read_run;
use crate::export::assemble::spread;
use crate::quantize::quantizer::{Settings, quantize};
use crate::quantize::range::RangeMethod;
use crate::quantize::report::report;
use crate::train::fit::at_positions;

/// Quantize a trained fold and report layer by layer how close int8 comes to float.
#[derive(Debug, Args)]
pub struct QuantizeArgs {
    #[command(flatten)]
    trained: TrainedArgs,
    #[command(flatten)]
    quantization: QuantizationArgs,
    /// Compare int8 with float over the images and print the figures.
    #[arg(long)]
    report: bool,
    /// Compare on the held-out images only, instead of all.
    #[arg(long)]
    held_out: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How int8 is reached. The defaults are the best measured.
#[derive(Debug, Args)]
pub struct QuantizationArgs {
    /// Most training images to calibrate on, evenly spread; held-out images are never used.
    #[arg(long, default_value_t = 229)]
    pub calibration_images: usize,
    /// How activation ranges are chosen.
    #[arg(long, value_enum, default_value_t = RangeName::Minmax)]
    ranges: RangeName,
    /// Percentage of values that `--ranges percentile` keeps.
    #[arg(long, default_value_t = 99.999)]
    percentile: f64,
    /// Leave channels as they were trained, instead of equalising them.
    #[arg(long)]
    no_equalize: bool,
    /// Round every weight to the nearest step, whatever that does to the layer's output.
    #[arg(long)]
    nearest: bool,
    /// Leave biases as they are, instead of making up for the mean error of rounded weights.
    #[arg(long)]
    no_bias_correction: bool,
    /// Part of all multiply-adds to spend in float, on the layers that lose most.
    #[arg(long, value_name = "PART", default_value_t = Settings::default().float_budget)]
    float_budget: f64,
    /// Most steps that the root mean square of a channel's weights may be, where boards then add
    /// products up faster; 127 for no bound.
    #[arg(long, value_name = "STEPS", default_value_t = Settings::default().weight_rms)]
    weight_rms: f64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RangeName {
    Minmax,
    Percentile,
    Mse,
    Entropy,
}

impl QuantizationArgs {
    /// The settings asked for.
    ///
    /// # Errors
    /// When a number is out of bounds.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        if !(0.0..=1.0).contains(&self.float_budget) {
            bail!("--float-budget is a part: from 0 to 1");
        }
        if !(1.0..=127.0).contains(&self.weight_rms) {
            bail!("--weight-rms is a number of steps: from 1 to 127");
        }
        if !(50.0..=100.0).contains(&self.percentile) {
            bail!("--percentile is a percentage: from 50 to 100");
        }
        Ok(Settings {
            ranges: match self.ranges {
                RangeName::Minmax => RangeMethod::MinMax,
                RangeName::Percentile => RangeMethod::Percentile(self.percentile),
                RangeName::Mse => RangeMethod::Mse,
                RangeName::Entropy => RangeMethod::Entropy,
            },
            equalize: !self.no_equalize,
            second_order: !self.nearest,
            correct_biases: !self.no_bias_correction,
            float_budget: self.float_budget,
            weight_rms: self.weight_rms,
        })
    }
}

/// Runs `host quantize`.
///
/// # Errors
/// When the fold is not finished or libtorch fails.
pub fn run(args: QuantizeArgs) -> anyhow::Result<()> {
    if !args.report {
        bail!("nothing to do: add --report, or make a bundle with `host export`");
    }
    let settings = args.quantization.settings()?;
    let trained = args.trained.load()?;
    let predictions = read_run(&args.trained.run, Some(trained.folds.k()))?;
    let temperature = evaluate(&predictions, None)?.metrics.temperature.value;
    let training = trained.training(args.trained.fold);
    let calibration = spread(&training, args.quantization.calibration_images);
    let bar = ProgressBar::new(0);
    let images = at_positions(&trained.samples.inputs, &calibration);
    let quantized = quantize(&trained.network, &images, &settings, &bar)?;
    bar.finish_and_clear();
    let positions = if args.held_out {
        trained.held_out(args.trained.fold)
    } else {
        (0..trained.samples.ids.len()).collect()
    };
    let bar = ProgressBar::new(positions.len() as u64);
    let images = at_positions(&trained.samples.inputs, &positions);
    let report = report(&trained.network, &quantized, &images, temperature, &|| bar.inc(1))?;
    bar.finish_and_clear();
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(())
}
