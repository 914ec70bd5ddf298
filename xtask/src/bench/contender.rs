//! Who takes part, and what each needs to run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;

use crate::cached;
use crate::paths::Paths;
use crate::peers;
use crate::process;

const OPENVINO: &str = "openvino.txt";
const NCNN: &str = "ncnn.txt";

/// A runtime with a number format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Contender {
    /// The device program and its int8 bundle
    Ours,
    /// tract as it comes, in float
    TractFloat,
    /// ONNX Runtime in float
    OnnxruntimeFloat,
    /// ONNX Runtime, its own quantization: u8 activations, i8 weights per channel, QOperator
    OnnxruntimeInt8,
    /// OpenVINO in float
    OpenvinoFloat,
    /// OpenVINO, ONNX Runtime's quantization as QDQ
    OpenvinoInt8,
    /// ncnn in float, with Winograd convolutions; its converter stores weights in 16 bits
    NcnnFloat,
    /// ncnn in int8
    NcnnInt8,
}

impl Contender {
    /// Name in tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Ours => "Spinesight int8",
            Self::TractFloat => "tract float",
            Self::OnnxruntimeFloat => "ONNX Runtime float",
            Self::OnnxruntimeInt8 => "ONNX Runtime int8",
            Self::OpenvinoFloat => "OpenVINO float",
            Self::OpenvinoInt8 => "OpenVINO int8",
            Self::NcnnFloat => "ncnn float",
            Self::NcnnInt8 => "ncnn int8",
        }
    }

    /// Name on the command line and in JSON.
    pub fn key(self) -> String {
        self.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
    }

    /// Requirements files of the Python environments it needs, those of its model's maker too.
    fn environments(self) -> &'static [&'static str] {
        match self {
            Self::Ours | Self::NcnnInt8 => &[],
            Self::TractFloat | Self::OnnxruntimeFloat | Self::OnnxruntimeInt8 => &[peers::TESTS],
            Self::OpenvinoFloat | Self::OpenvinoInt8 => &[peers::TESTS, OPENVINO],
            Self::NcnnFloat => &[peers::TESTS, NCNN],
        }
    }
}

/// How a contender's process is started, but for the number of threads.
#[derive(Clone, Debug)]
pub struct Launch {
    program: PathBuf,
    arguments: Vec<PathBuf>,
    last: Option<PathBuf>,
    /// What it loads of the network.
    pub model: Vec<PathBuf>,
}

impl Launch {
    /// A program of a test.
    #[cfg(test)]
    pub fn of(program: &str, arguments: &[&str]) -> Launch {
        let arguments = arguments.iter().map(PathBuf::from).collect();
        Launch { program: program.into(), arguments, last: None, model: Vec::new() }
    }

    /// The command that starts it.
    pub fn command(&self, threads: usize) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg("--threads").arg(threads.to_string()).args(&self.last);
        command
    }
}

/// The programs of all contenders: ours, and the Python interpreters of the peers.
#[derive(Debug)]
pub struct Programs {
    device: PathBuf,
    interpreters: BTreeMap<&'static str, Result<PathBuf, String>>,
}

impl Programs {
    /// Builds and installs what the contenders need; what cannot be had is remembered as such.
    ///
    /// # Errors
    /// When the device program does not build.
    pub fn provide(paths: &Paths, contenders: &[Contender]) -> Result<Programs> {
        let device = process::build_binary(paths, "device", None)?;
        let mut interpreters = BTreeMap::new();
        for file in contenders.iter().flat_map(|contender| contender.environments()) {
            let found = || peers::ensure(paths, file).map_err(|error| format!("{error:#}"));
            interpreters.entry(*file).or_insert_with(found);
        }
        Ok(Programs { device, interpreters })
    }

    fn interpreter(&self, file: &str) -> Result<&Path> {
        let found = self.interpreters.get(file).context("its environment was not asked for")?;
        found.as_deref().map_err(|reason| anyhow!("{reason}"))
    }
}

/// A bundle's network, ready for each contender.
#[derive(Debug)]
pub struct Course<'a> {
    paths: &'a Paths,
    programs: &'a Programs,
    bundle: PathBuf,
    picture: PathBuf,
    inputs: PathBuf,
    /// Folder of the peers' ONNX models; made for the first one that needs it.
    models: Option<Result<PathBuf, String>>,
}

impl<'a> Course<'a> {
    /// Writes the network inputs that the peers run on: the bundle's golden picture first, then
    /// the samples that quantizers choose ranges on.
    ///
    /// # Errors
    /// When a picture cannot be read.
    pub fn new(
        paths: &'a Paths,
        programs: &'a Programs,
        bundle: PathBuf,
        samples: &[PathBuf],
    ) -> Result<Self> {
        let picture = bundle.join("golden/input.png");
        let name = bundle.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let inputs = paths.cache.join(format!("bench-inputs-{name}.f32"));
        let mut command = Command::new(&programs.device);
        command.args(["bench", "--save-inputs"]).arg(&inputs).arg(&picture).args(samples);
        process::run(&mut command)?;
        Ok(Self { paths, programs, bundle, picture, inputs, models: None })
    }

    /// How to start a contender.
    ///
    /// # Errors
    /// With the reason when it does not run on this machine.
    pub fn launch(&mut self, contender: Contender) -> Result<Launch> {
        match contender {
            Contender::Ours => {
                let bundle = self.bundle.clone();
                let model = vec![bundle.join("model.onnx"), bundle.join("head.safetensors")];
                Ok(self.ours("--bundle", bundle, model))
            }
            Contender::TractFloat => {
                let model = self.models()?.join("float.onnx");
                Ok(self.ours("--tract", model.clone(), vec![model]))
            }
            Contender::OnnxruntimeFloat => self.peer(peers::TESTS, "onnxruntime", "float.onnx"),
            Contender::OnnxruntimeInt8 => self.peer(peers::TESTS, "onnxruntime", "qoperator.onnx"),
            Contender::OpenvinoFloat => self.peer(OPENVINO, "openvino", "float.onnx"),
            Contender::OpenvinoInt8 => self.peer(OPENVINO, "openvino", "qdq.onnx"),
            Contender::NcnnFloat => {
                let folder = self.ncnn_model()?;
                let [param, bin] =
                    ["param", "bin"].map(|e| folder.join("float.ncnn").with_added_extension(e));
                self.python(NCNN, "ncnn", param.clone(), vec![param, bin])
            }
            Contender::NcnnInt8 => Err(anyhow!("ncnn's quantization tools are not on PyPI")),
        }
    }

    fn ours(&self, flag: &str, network: PathBuf, model: Vec<PathBuf>) -> Launch {
        Launch {
            program: self.programs.device.clone(),
            arguments: vec!["bench".into(), flag.into(), network],
            last: Some(self.picture.clone()),
            model,
        }
    }

    fn peer(&mut self, environment: &str, runtime: &str, file: &str) -> Result<Launch> {
        let model = self.models()?.join(file);
        self.python(environment, runtime, model.clone(), vec![model])
    }

    fn python(
        &self,
        environment: &str,
        runtime: &str,
        network: PathBuf,
        model: Vec<PathBuf>,
    ) -> Result<Launch> {
        let script = self.script("bench_peer.py");
        let arguments = vec![
            script,
            "--runtime".into(),
            runtime.into(),
            "--inputs".into(),
            self.inputs.clone(),
            "--model".into(),
            network,
        ];
        let program = self.programs.interpreter(environment)?.to_path_buf();
        Ok(Launch { program, arguments, last: None, model })
    }

    fn script(&self, name: &str) -> PathBuf {
        self.paths.root.join("tests/peers").join(name)
    }

    /// Folder with the network as `float.onnx`, `qoperator.onnx` and `qdq.onnx`.
    fn models(&mut self) -> Result<PathBuf> {
        if self.models.is_none() {
            self.models = Some(self.make_models().map_err(|error| format!("{error:#}")));
        }
        let made = self.models.as_ref().context("the peers' models were not made")?;
        made.clone().map_err(|reason| anyhow!("{reason}"))
    }

    fn make_models(&self) -> Result<PathBuf> {
        let python = self.programs.interpreter(peers::TESTS)?;
        let (script, model) = (self.script("bench_models.py"), self.bundle.join("model.onnx"));
        let requirements = self.script(peers::TESTS);
        let sources = [&script, &model, &self.inputs, &requirements];
        let make = |folder: &Path| {
            eprintln!("making the peers' models of {} in {}", model.display(), folder.display());
            let mut command = Command::new(python);
            process::run(command.arg(&script).args([&model, &self.inputs]).arg(folder))
        };
        self.cached("bench-models", &sources, make)
    }

    fn ncnn_model(&mut self) -> Result<PathBuf> {
        let float = self.models()?.join("float.onnx");
        let python = self.programs.interpreter(NCNN)?;
        let (script, requirements) = (self.script("bench_pnnx.py"), self.script(NCNN));
        let make =
            |folder: &Path| process::run(Command::new(python).arg(&script).arg(&float).arg(folder));
        self.cached("bench-ncnn", &[&script, &float, &requirements], make)
    }

    fn cached(
        &self,
        name: &str,
        sources: &[&PathBuf],
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let read = |file: &&PathBuf| {
            fs::read(file).with_context(|| format!("cannot read {}", file.display()))
        };
        let contents = sources.iter().map(read).collect::<Result<Vec<_>>>()?;
        let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        cached::folder(self.paths, name, &contents, "making the peers' models", |_| true, make)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_command_line() {
        let keys: Vec<String> = Contender::value_variants().iter().map(|c| c.key()).collect();
        assert_eq!(keys[0], "ours");
        assert!(keys.contains(&"onnxruntime-int8".to_owned()), "{keys:?}");
    }

    #[test]
    fn a_missing_environment_is_a_reason_not_a_failure() {
        let reason = Err("no wheel for this machine".to_owned());
        let interpreters = BTreeMap::from([(NCNN, reason), (OPENVINO, Ok("p".into()))]);
        let programs = Programs { device: "device".into(), interpreters };
        assert_eq!(programs.interpreter(OPENVINO).unwrap(), Path::new("p"));
        let error = programs.interpreter(NCNN).unwrap_err().to_string();
        assert_eq!(error, "no wheel for this machine");
    }
}
