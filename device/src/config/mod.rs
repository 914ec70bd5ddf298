//! The configuration file of `device serve`: one TOML file, every key documented by
//! [`example`], all mistakes reported at once.

mod first_boot;
mod reader;
mod setting;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use toml::Table;

pub use first_boot::FirstBoot;
pub use reader::Mistake;
use reader::{Reader, Section};
pub use setting::AeTitle;

/// How the board works.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Names and folders.
    pub board: Board,
    /// Where scans come from over the network.
    pub receive: Receive,
    /// Where scans come from as files.
    pub folder: Folder,
    /// Where results go.
    pub destinations: Vec<Destination>,
    /// When a failed delivery is tried again.
    pub retry: Retry,
    /// How long scans stay.
    pub storage: Storage,
    /// Lamps, buzzer, button, display.
    pub panel: Panel,
    /// The page.
    pub page: Page,
    /// The log.
    pub log: Log,
}

/// Names and folders of the board.
#[derive(Clone, Debug, PartialEq)]
pub struct Board {
    /// Station name in result objects.
    pub station: String,
    /// Device serial number in result objects.
    pub serial: String,
    /// Folder for everything the service keeps.
    pub data: PathBuf,
    /// Folder of the model bundle; may be a link that is switched.
    pub bundle: PathBuf,
    /// Threads of the network; 0 is one per core.
    pub threads: usize,
}

/// The C-STORE and C-ECHO provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Receive {
    /// Where to listen.
    pub address: SocketAddr,
    /// Our AE title.
    pub ae_title: AeTitle,
    /// Who may call; `*` is anyone.
    pub callers: Vec<String>,
    /// Associations at the same time.
    pub associations: usize,
    /// Largest PDU, in bytes.
    pub max_pdu: u32,
    /// Largest object, in bytes.
    pub max_object: u64,
    /// Longest silence inside an association.
    pub silence: Duration,
    /// Longest time from connection to association.
    pub greeting: Duration,
    /// Longest time for one object.
    pub object: Duration,
    /// TLS, when configured.
    pub tls: Option<ServerTls>,
}

/// Certificates of a listening service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerTls {
    /// PEM file of our certificate chain.
    pub certificate: PathBuf,
    /// PEM file of our key.
    pub key: PathBuf,
    /// PEM file of the authority whose client certificates are demanded.
    pub client_ca: Option<PathBuf>,
}

/// Files dropped into folders, and USB sticks.
#[derive(Clone, Debug, PartialEq)]
pub struct Folder {
    /// Folders whose files are judged and then removed.
    pub inbox: Option<PathBuf>,
    /// Folder under which USB sticks appear; their files stay.
    pub usb: Option<PathBuf>,
    /// How often folders are looked through.
    pub interval: Duration,
}

/// One receiver of results.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// Its name on the page and in the log.
    pub name: String,
    /// How it is reached.
    pub way: Way,
    /// Which objects it gets.
    pub send: Vec<ObjectKind>,
    /// Whether the source scan is forwarded too.
    pub forward: bool,
    /// Longest time for one delivery.
    pub timeout: Duration,
}

/// How a destination is reached.
#[derive(Clone, Debug, PartialEq)]
pub enum Way {
    /// DICOM C-STORE.
    Dicom {
        /// Host and port.
        address: String,
        /// Its AE title.
        ae_title: AeTitle,
        /// TLS: the authority that signed its certificate.
        ca: Option<PathBuf>,
        /// TLS: our certificate and key.
        identity: Option<(PathBuf, PathBuf)>,
        /// Whether it must promise to keep what it got (storage commitment).
        commitment: bool,
    },
    /// DICOMweb STOW-RS.
    Stow {
        /// Address of the studies resource.
        url: String,
        /// File that holds `name:password`.
        login: Option<PathBuf>,
        /// File that holds a bearer token.
        token: Option<PathBuf>,
        /// The authority that signed its certificate.
        ca: Option<PathBuf>,
    },
}

/// The kinds of result objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// Secondary Capture with the heat map.
    SecondaryCapture,
    /// Structured report.
    Report,
    /// Presentation state with the heat contour.
    PresentationState,
}

/// When a failed delivery is tried again.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// After the first failure; doubled each time.
    pub first: Duration,
    /// The longest pause.
    pub most: Duration,
    /// Tries before a human must act.
    pub attempts: u32,
}

/// How long scans stay.
#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    /// Free space below which scans are refused, in bytes.
    pub keep_free: u64,
    /// Running time after which delivered scans are removed.
    pub retention: Duration,
}

/// Which panel there is.
#[derive(Clone, Debug, PartialEq)]
pub enum Panel {
    /// None.
    None,
    /// Text lines on the terminal.
    Terminal,
    /// Lines of a GPIO chip and a display on an I2C bus.
    Gpio {
        /// GPIO character device.
        chip: PathBuf,
        /// Line numbers.
        lines: Lines,
        /// Bus of the display.
        i2c: Option<PathBuf>,
        /// Rows of the display: 32 or 64.
        rows: u64,
    },
}

/// Line numbers of a panel on its GPIO chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// Green lamp.
    pub green: u32,
    /// Amber lamp.
    pub amber: u32,
    /// Red lamp, lit when the line is low.
    pub red: u32,
    /// Buzzer.
    pub buzzer: u32,
    /// Pulse while the service lives.
    pub heartbeat: u32,
    /// Acknowledge button, pressed when low.
    pub button: u32,
    /// Exposure ready, where it is connected.
    pub exposure: Option<u32>,
}

/// The page.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// Where to listen.
    pub address: SocketAddr,
    /// Names by which browsers may address the board, beside its addresses.
    pub names: Vec<String>,
    /// HTTPS, when configured.
    pub tls: Option<ServerTls>,
    /// File with the hash of the sign-in secret.
    pub secret: Option<PathBuf>,
    /// Longest session.
    pub session: Duration,
    /// Longest pause in a session.
    pub idle: Duration,
}

/// The log.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// Size of one file, in bytes.
    pub size: u64,
    /// Files kept.
    pub files: usize,
    /// Serial port that gets the frames too.
    pub serial: Option<PathBuf>,
    /// Speed of that port, in baud.
    pub baud: u32,
}

/// Why a configuration is unusable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration is not TOML: {0}")]
    Syntax(String),
    /// Keys with wrong values, unknown keys, missing keys.
    #[error("the configuration has {} mistake(s):{}", .0.len(), listed(.0))]
    Mistakes(Vec<Mistake>),
}

fn listed(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(|mistake| format!("\n  {}: {}", mistake.key, mistake.problem)).collect()
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or with all its mistakes.
    pub fn load(path: &Path) -> Result<(Self, ConfigDigest), ConfigError> {
        let unreadable = |error| ConfigError::Unreadable { path: path.to_owned(), error };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Ok((Self::parse(&text)?, ConfigDigest(hex::encode(Sha256::digest(&text)))))
    }

    /// Reads a text.
    ///
    /// # Errors
    /// With all mistakes.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let file: Table = text
            .parse()
            .map_err(|error: toml::de::Error| ConfigError::Syntax(error.message().to_owned()))?;
        let mut reader = Reader::new(file);
        let config = Self::read(&mut reader);
        reader.finish();
        if reader.mistakes.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Mistakes(reader.mistakes))
        }
    }

    fn read(reader: &mut Reader) -> Self {
        Self {
            board: Board::read(reader.section("board", "Names and folders of the board.")),
            receive: Receive::read(
                reader.section("receive", "Scans from X-ray units: DICOM C-STORE and C-ECHO."),
            ),
            folder: Folder::read(
                reader.section("folder", "Scans as files: DICOM, PNG, JPEG, TIFF."),
            ),
            destinations: destinations(reader),
            retry: Retry::read(reader.section(
                "retry",
                "When a failed delivery is tried again; twice as late each time.",
            )),
            storage: Storage::read(reader.section("storage", "How long scans stay.")),
            panel: Panel::read(
                reader.section("panel", "Lamps, buzzer, acknowledge button and display."),
            ),
            page: Page::read(
                reader.section("page", "The web page; `device provision` makes its files."),
            ),
            log: Log::read(reader.section("log", "Compact frames for `cargo xtask logs`.")),
        }
    }
}

/// SHA-256 of a configuration file, in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigDigest(pub String);

/// A documented file with every key, its meaning and its default.
pub fn example() -> String {
    let mut reader = Reader::default();
    Config::read(&mut reader);
    format!(
        "# Configuration of `device serve`. Every key is shown with its default; keys that are\n\
         # commented out are off, or must be given. `device config FILE` checks a file.\n{}",
        reader.example()
    )
}

const MEGABYTE: u64 = 1_000_000;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

impl Board {
    fn read(mut keys: Section<'_>) -> Self {
        let station = "SPINESIGHT".to_owned();
        Self {
            station: keys.take("station", "Station name in result objects.", station),
            serial: keys.take("serial", "Serial number in result objects.", "0".to_owned()),
            data: keys.take(
                "data",
                "Folder for scans, log and audit trail.",
                PathBuf::from("/var/lib/spinesight"),
            ),
            bundle: keys.take(
                "bundle",
                "Folder of the model bundle; when its content changes, the new one judges as soon \
                 as it passes its self-test.",
                PathBuf::from("/usr/share/spinesight/bundle"),
            ),
            threads: keys.within("threads", "Threads of the network; 0 is one per core.", 0, 0..=64)
                as usize,
        }
    }
}

impl Receive {
    fn read(mut keys: Section<'_>) -> Self {
        Self {
            address: keys.take("address", "Where to listen.", SocketAddr::from(([0; 4], 11112))),
            ae_title: keys.take("ae_title", "Our AE title.", AeTitle("SPINESIGHT".into())),
            callers: keys.take(
                "callers",
                "AE titles that may send; [\"*\"] lets anyone send.",
                Vec::new(),
            ),
            associations: keys.within("associations", "Associations at the same time.", 8, 1..=64)
                as usize,
            max_pdu: keys.within("max_pdu", "Largest PDU, bytes.", 65_536, 4_096..=131_072) as u32,
            max_object: MEGABYTE
                * keys.within(
                    "max_object_mb",
                    "Largest object, megabytes; judging one takes three times as much memory.",
                    100,
                    1..=2_000,
                ),
            silence: keys.within(
                "silence",
                "Longest silence inside an association.",
                30 * SECOND,
                SECOND..=HOUR,
            ),
            greeting: keys.within(
                "greeting",
                "Longest time from connection to association.",
                10 * SECOND,
                SECOND..=MINUTE,
            ),
            object: keys.within(
                "object",
                "Longest time for one object.",
                5 * MINUTE,
                SECOND..=HOUR,
            ),
            tls: server_tls(&mut keys, true),
        }
    }
}

/// TLS is on when the certificate and its key are given.
fn server_tls(keys: &mut Section<'_>, may_ask_clients: bool) -> Option<ServerTls> {
    let folder = Path::new("/etc/spinesight");
    let certificate =
        keys.maybe("certificate", "TLS: PEM file of our certificate.", folder.join("board.pem"));
    let key = keys.maybe("key", "TLS: PEM file of our key.", folder.join("board.key"));
    let about = "TLS: senders must show a certificate signed by this authority.";
    let client_ca = if may_ask_clients {
        keys.maybe("client_ca", about, folder.join("senders.pem"))
    } else {
        None
    };
    match (certificate, key) {
        (Some(certificate), Some(key)) => Some(ServerTls { certificate, key, client_ca }),
        (None, None) if client_ca.is_none() => None,
        _ => {
            keys.mistake("certificate", "certificate and key belong together".into());
            None
        }
    }
}

impl Folder {
    fn read(mut keys: Section<'_>) -> Self {
        Self {
            inbox: keys.maybe(
                "inbox",
                "Files here are judged, then removed.",
                PathBuf::from("/var/lib/spinesight/inbox"),
            ),
            usb: keys.maybe(
                "usb",
                "Where USB sticks appear; their files are judged and stay.",
                PathBuf::from("/media"),
            ),
            interval: keys.within(
                "interval",
                "How often they are looked through.",
                2 * SECOND,
                SECOND / 10..=HOUR,
            ),
        }
    }
}

fn destinations(reader: &mut Reader) -> Vec<Destination> {
    let about = "A receiver of results; repeat the section for more.";
    let all = reader.list("destination", about, Destination::read);
    let names: Vec<_> = all.iter().map(|destination| &destination.name).collect();
    for (place, name) in names.iter().enumerate() {
        if names[..place].contains(name) {
            let problem = "is used by another destination".to_owned();
            let key = format!("destination[{}].name", place + 1);
            reader.mistakes.push(Mistake { key, problem });
        }
    }
    all
}

impl Destination {
    fn read(keys: &mut Section<'_>) -> Self {
        let name = keys.require("name", "Its name on the page and in the log.", "pacs".to_owned());
        if name.is_empty() || name.len() > 32 {
            keys.mistake("name", "must have 1 to 32 characters".into());
        }
        let way = Way::read(keys);
        let all = ["secondary-capture", "report", "presentation-state"];
        let send =
            keys.take("send", "Which result objects it gets.", all.map(String::from).to_vec());
        let send = send.iter().filter_map(|kind| match kind.as_str() {
            "secondary-capture" => Some(ObjectKind::SecondaryCapture),
            "report" => Some(ObjectKind::Report),
            "presentation-state" => Some(ObjectKind::PresentationState),
            _ => {
                keys.mistake("send", format!("must be of {}", all.join(", ")));
                None
            }
        });
        Self {
            name,
            send: send.collect(),
            forward: keys.take("forward", "Whether the scan itself is sent on too.", false),
            timeout: keys.within(
                "timeout",
                "Longest time for one delivery.",
                MINUTE,
                SECOND / 10..=HOUR,
            ),
            way,
        }
    }
}

impl Way {
    fn read(keys: &mut Section<'_>) -> Self {
        let folder = Path::new("/etc/spinesight");
        let kind = keys.take("kind", "\"dicom\" or \"stow\" (DICOMweb).", "dicom".to_owned());
        let address = keys.maybe("address", "dicom: host and port.", "192.0.2.10:104".to_owned());
        let ae_title = keys.maybe("ae_title", "dicom: its AE title.", AeTitle("PACS".into()));
        let commitment = keys.take(
            "commitment",
            "dicom: it must promise to keep the objects before ours are removed.",
            false,
        );
        let certificate = keys.maybe(
            "certificate",
            "dicom, TLS: PEM file of our certificate, where it asks for one.",
            folder.join("board.pem"),
        );
        let key = keys.maybe("key", "dicom, TLS: PEM file of our key.", folder.join("board.key"));
        let url = keys.maybe(
            "url",
            "stow: address of the studies resource.",
            "https://pacs.example/dicom-web/studies".to_owned(),
        );
        let login =
            keys.maybe("login", "stow: file with name:password.", folder.join("pacs.login"));
        let token =
            keys.maybe("token", "stow: file with a bearer token.", folder.join("pacs.token"));
        let ca = keys.maybe(
            "ca",
            "TLS: PEM file of the authority that signed its certificate.",
            folder.join("pacs-ca.pem"),
        );
        if certificate.is_some() != key.is_some() {
            keys.mistake("certificate", "certificate and key belong together".into());
        }
        if kind == "stow" {
            if login.is_some() && token.is_some() {
                keys.mistake("token", "must not be given beside login".into());
            }
            return Self::Stow { url: given(keys, "url", url, String::new()), login, token, ca };
        }
        if kind != "dicom" {
            keys.mistake("kind", "must be \"dicom\" or \"stow\"".into());
        }
        if address.as_deref().is_some_and(|address| !is_host_and_port(address)) {
            keys.mistake("address", "must be host:port, as in \"192.0.2.10:104\"".into());
        }
        Self::Dicom {
            address: given(keys, "address", address, String::new()),
            ae_title: given(keys, "ae_title", ae_title, AeTitle(String::new())),
            ca,
            identity: certificate.zip(key),
            commitment,
        }
    }
}

/// A key that this kind of destination needs; `stand_in` lets later mistakes be found too.
fn given<T>(keys: &mut Section<'_>, key: &str, value: Option<T>, stand_in: T) -> T {
    if value.is_none() {
        keys.mistake(key, "is missing".into());
    }
    value.unwrap_or(stand_in)
}

fn is_host_and_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

impl Retry {
    fn read(mut keys: Section<'_>) -> Self {
        let first = keys.within("first", "The first pause.", 10 * SECOND, SECOND / 100..=HOUR);
        let most = keys.within("most", "The longest pause.", 10 * MINUTE, SECOND / 100..=DAY);
        if most < first {
            keys.mistake("most", "must not be shorter than the first pause".into());
        }
        let about = "Tries before a human must act; the longest pause lies between late ones.";
        let attempts = keys.within("attempts", about, 100, 1..=1_000_000) as u32;
        Self { first, most, attempts }
    }
}

impl Storage {
    fn read(mut keys: Section<'_>) -> Self {
        Self {
            keep_free: MEGABYTE
                * keys.within(
                    "keep_free_mb",
                    "Scans are refused when less is free, megabytes.",
                    1_000,
                    1..=1_000_000,
                ),
            retention: keys.within(
                "retention",
                "Running time after which delivered scans are removed.",
                30 * DAY,
                SECOND..=3650 * DAY,
            ),
        }
    }
}

impl Panel {
    fn read(mut keys: Section<'_>) -> Self {
        let kind = keys.take("kind", "\"none\", \"terminal\" or \"gpio\".", "none".to_owned());
        let chip = keys.take("chip", "gpio: the character device.", "/dev/gpiochip0".into());
        let exposure = keys.maybe("exposure", "gpio: line that says the exposure is ready.", 5_u64);
        let exposure = exposure.map(|line| u32::try_from(line).unwrap_or(u32::MAX));
        let mut line = |key, about, default| keys.within(key, about, default, 0..=1_023) as u32;
        let lines = Lines {
            green: line("green", "gpio: line of the green lamp.", 17),
            amber: line("amber", "gpio: line of the amber lamp.", 27),
            red: line("red", "gpio: line of the red lamp, lit when low.", 22),
            buzzer: line("buzzer", "gpio: line of the buzzer.", 23),
            heartbeat: line("heartbeat", "gpio: line that pulses while the service lives.", 24),
            button: line("button", "gpio: line of the acknowledge button, low when pressed.", 25),
            exposure,
        };
        let i2c = keys.maybe("i2c", "gpio: bus of the display.", PathBuf::from("/dev/i2c-1"));
        let rows = keys.take("rows", "gpio: rows of the display, 32 or 64.", 64);
        if rows != 32 && rows != 64 {
            keys.mistake("rows", "must be 32 or 64".into());
        }
        match kind.as_str() {
            "none" => Self::None,
            "terminal" => Self::Terminal,
            "gpio" => Self::Gpio { chip, lines, i2c, rows },
            _ => {
                keys.mistake("kind", "must be \"none\", \"terminal\" or \"gpio\"".into());
                Self::None
            }
        }
    }
}

impl Page {
    fn read(mut keys: Section<'_>) -> Self {
        let local = SocketAddr::from(([127, 0, 0, 1], 8080));
        let address = keys.take("address", "Where to listen.", local);
        let about = "Host names by which browsers may address the board, beside its addresses.";
        let names = keys.take("names", about, Vec::new());
        let tls = server_tls(&mut keys, false);
        let secret = keys.maybe(
            "secret",
            "File with the hash of the sign-in secret; without it the page is for this machine \
             alone.",
            PathBuf::from("/etc/spinesight/page.secret"),
        );
        if !address.ip().is_loopback() && (tls.is_none() || secret.is_none()) {
            let problem = "must be of this machine (127.0.0.1) until certificate, key and secret \
                           are given; `device provision` makes them";
            keys.mistake("address", problem.into());
        }
        Self {
            address,
            names,
            tls,
            secret,
            session: keys.within("session", "Longest session.", 12 * HOUR, SECOND..=30 * DAY),
            idle: keys.within("idle", "Longest pause in a session.", 30 * MINUTE, SECOND..=DAY),
        }
    }
}

impl Log {
    fn read(mut keys: Section<'_>) -> Self {
        Self {
            size: MEGABYTE * keys.within("size_mb", "Size of one file, megabytes.", 4, 1..=1_000),
            files: keys.within("files", "Files kept.", 8, 2..=1_000) as usize,
            serial: keys.maybe(
                "serial",
                "Serial port that gets the frames too.",
                PathBuf::from("/dev/ttyS0"),
            ),
            baud: keys.within("baud", "Speed of that port, baud.", 115_200, 1_200..=4_000_000)
                as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        match Config::parse(text) {
            Err(ConfigError::Mistakes(all)) => all.into_iter().map(|mistake| mistake.key).collect(),
            Err(other) => panic!("{other}"),
            Ok(_) => Vec::new(),
        }
    }

    #[test]
    fn an_empty_file_has_every_default() {
        let config = Config::parse("").expect("defaults");
        assert_eq!(config.receive.ae_title.0, "SPINESIGHT");
        assert!(config.destinations.is_empty() && config.receive.callers.is_empty());
    }

    /// Covers: CFG-2
    #[test]
    fn the_example_is_a_valid_file_with_the_defaults_and_documents_each_key() {
        let example = example();
        assert_eq!(Config::parse(&example).expect("valid"), Config::parse("").expect("defaults"));
        let lines: Vec<_> = example.lines().collect();
        for (place, line) in lines.iter().enumerate() {
            if line.contains(" = ") && !line.starts_with("# ") {
                assert!(lines[place - 1].starts_with("# "), "{line} is not explained");
            }
        }
        let uncommented: String = example
            .lines()
            .map(|line| {
                line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line)
            })
            .map(|line| format!("{line}\n"))
            .collect();
        let full = Config::parse(&uncommented).expect("every commented key is valid too");
        assert_eq!(full.destinations.len(), 1);
        assert!(full.receive.tls.is_some() && full.page.secret.is_some());
    }

    /// Covers: CFG-1
    #[test]
    fn all_mistakes_are_reported_at_once() {
        let text = "
            nonsense = 1
            [receive]
            address = \"here\"
            max_pdu = 1
            callrs = []
            [[destination]]
            name = \"a\"
            kind = \"fax\"
            [[destination]]
            name = \"a\"
            address = \"pacs:104\"
            ae_title = \"PACS\"
            [page]
            address = \"0.0.0.0:80\"
            [retry]
            first = 3
        ";
        let expected = [
            "receive.address",
            "receive.max_pdu",
            "receive.callrs",
            "destination[1].kind",
            "destination[1].address",
            "destination[1].ae_title",
            "destination[2].name",
            "retry.first",
            "page.address",
            "nonsense",
        ];
        assert_eq!(mistakes(text), expected);
    }

    #[test]
    fn sections_of_the_wrong_kind_are_mistakes() {
        assert_eq!(mistakes("receive = 1\ndestination = 2"), ["receive", "destination"]);
        assert_eq!(mistakes("[destination]\nname = \"a\""), ["destination"]);
        assert!(matches!(Config::parse("[receive"), Err(ConfigError::Syntax(_))));
    }

    #[test]
    fn a_page_for_others_needs_a_certificate_and_a_secret() {
        let open = "[page]\naddress = \"0.0.0.0:443\"\ncertificate = \"a\"\nkey = \"b\"\n";
        assert_eq!(mistakes(open), ["page.address"]);
        assert!(mistakes(&format!("{open}secret = \"c\"")).is_empty());
        assert_eq!(mistakes("[receive]\nkey = \"b\""), ["receive.certificate"]);
    }
}
