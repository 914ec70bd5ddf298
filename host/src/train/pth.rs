//! PyTorch state dictionaries (`.pth`, `.pt`) as `torch.save` of PyTorch 1.6 or later writes them.
//!
//! Such a file is a zip archive: `NAME/data.pkl` is a pickle that describes the tensors, and each
//! `NAME/data/KEY` holds one storage's plain elements. Pickle is a small stack language that can
//! call any Python function; the interpreter here knows only what a state dictionary needs, calls
//! nothing and refuses any other name. Format: `pickletools.py` of CPython and
//! `torch/serialization.py` of PyTorch.
//!
//! A file is not trusted. Containers refer to each other by position, so nesting costs no
//! recursion; the memory used is bounded by a multiple of the file's own length.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use tch::{Kind, TchError, Tensor};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

/// Longest pickle accepted, in bytes; 320 tensors, as in ResNet50, take about 33 KiB.
const MAX_PICKLE: u64 = 4 << 20;
/// Views may share a storage, but storages and tensors together take no more memory than this
/// many times the file's length.
const MAX_EXPANSION: u64 = 16;
/// Most dimensions of a tensor; a network's weights have at most five.
const MAX_DIMENSIONS: usize = 8;
/// Longest module or function name accepted, in bytes.
const MAX_NAME: usize = 256;
/// Keys under which training scripts nest the state dictionary.
const NESTED: [&str; 2] = ["state_dict", "model"];

/// Reads the tensors of a state dictionary, in the file's order, contiguous and on the CPU.
///
/// The pickled object is a dictionary of tensors, or a dictionary that has one under `state_dict`
/// or `model`. Entries that are not tensors are skipped.
///
/// # Errors
/// When the file cannot be read, is no such archive, is damaged, needs a Python function that is
/// not known here, or describes more memory than its own length justifies.
pub fn read(path: &Path) -> Result<Vec<(String, Tensor)>, PthError> {
    raw_tensors(File::open(path)?)?
        .into_iter()
        .map(|raw| {
            let tensor = Tensor::f_from_data_size(&raw.bytes, &raw.shape, raw.element.kind())?;
            Ok((raw.name, tensor))
        })
        .collect()
}

/// Why a file gives no state dictionary.
#[derive(Debug, thiserror::Error)]
pub enum PthError {
    /// The file cannot be read, or an entry is short or has the wrong checksum.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The archive is damaged or truncated.
    #[error("damaged archive: {0}")]
    Archive(#[from] ZipError),
    /// Written by PyTorch before 1.6, or without the zip format.
    #[error(
        "this is PyTorch's legacy format: load it in Python and `torch.save` it again with \
         PyTorch 1.6 or later, or convert it to safetensors"
    )]
    Legacy,
    /// Not what `torch.save` writes.
    #[error("not a PyTorch file: no zip archive with a `data.pkl` in a folder")]
    Foreign,
    /// An entry of the archive is compressed; PyTorch stores them as they are.
    #[error("archive entry {0:?} is compressed")]
    Compressed(String),
    /// The elements are not little-endian.
    #[error("byte order {0:?} is not supported, only `little`")]
    ByteOrder(String),
    /// The pickle names a function or class that no state dictionary needs. Nothing was called.
    #[error("the pickle refers to {0:?}, which is not part of a state dictionary; refused")]
    UnknownGlobal(String),
    /// The pickle has an instruction that no state dictionary needs.
    #[error("pickle instruction {opcode:#04x} at byte {at} is not supported")]
    UnknownOpcode {
        /// The instruction.
        opcode: u8,
        /// Its position in `data.pkl`.
        at: usize,
    },
    /// The pickle contradicts itself.
    #[error("damaged pickle before byte {at}: {reason}")]
    Pickle {
        /// Position in `data.pkl`.
        at: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A tensor's description does not fit its storage.
    #[error("tensor {name:?}: {reason}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// An entry or tensor needs more memory than the file's length justifies.
    #[error("{0:?} is too large for this file")]
    TooLarge(String),
    /// The pickled object is not a dictionary with tensors.
    #[error("no dictionary of tensors in this file")]
    NoTensors,
    /// libtorch refuses a tensor.
    #[error(transparent)]
    Torch(#[from] TchError),
}

/// A tensor without libtorch.
struct RawTensor {
    name: String,
    element: Element,
    shape: Vec<i64>,
    /// Contiguous little-endian elements.
    bytes: Vec<u8>,
}

/// What a storage holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    Float,
    Double,
    Half,
    BFloat16,
    Int64,
}

impl Element {
    fn from_storage(class: &str) -> Option<Self> {
        match class {
            "FloatStorage" => Some(Self::Float),
            "DoubleStorage" => Some(Self::Double),
            "HalfStorage" => Some(Self::Half),
            "BFloat16Storage" => Some(Self::BFloat16),
            "LongStorage" => Some(Self::Int64),
            _ => None,
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Float => Kind::Float,
            Self::Double => Kind::Double,
            Self::Half => Kind::Half,
            Self::BFloat16 => Kind::BFloat16,
            Self::Int64 => Kind::Int64,
        }
    }

    /// Bytes of one element.
    fn width(self) -> usize {
        match self {
            Self::Double | Self::Int64 => 8,
            Self::Float => 4,
            Self::Half | Self::BFloat16 => 2,
        }
    }
}

fn raw_tensors<R: Read + Seek>(reader: R) -> Result<Vec<RawTensor>, PthError> {
    let mut archive = Archive::open(reader)?;
    let pickle = archive.pickle()?;
    let mut machine = Machine::new(&pickle);
    let object = machine.run()?;
    let tensors = machine.state_dictionary(object)?;
    tensors.into_iter().map(|(name, view)| archive.tensor(name, view)).collect()
}

/// The zip archive, and how much memory its content may still take.
struct Archive<R> {
    zip: ZipArchive<R>,
    root: String,
    budget: u64,
    storages: HashMap<String, Vec<u8>>,
}

impl<R: Read + Seek> Archive<R> {
    fn open(mut reader: R) -> Result<Self, PthError> {
        let length = reader.seek(SeekFrom::End(0))?;
        reader.seek(SeekFrom::Start(0))?;
        let mut magic = Vec::new();
        reader.by_ref().take(4).read_to_end(&mut magic)?;
        match magic[..] {
            [b'P', b'K', 3, 4] => {}
            [0x80, 2..=5, ..] => return Err(PthError::Legacy),
            _ => return Err(PthError::Foreign),
        }
        let zip = ZipArchive::new(reader)?;
        let root = zip
            .file_names_raw()
            .filter_map(|name| std::str::from_utf8(name).ok()?.strip_suffix("/data.pkl"))
            .find(|root| !root.contains('/'))
            .ok_or(PthError::Foreign)?
            .to_string();
        let budget = length.saturating_mul(MAX_EXPANSION);
        let mut archive = Self { zip, root, budget, storages: HashMap::new() };
        archive.check_byte_order()?;
        Ok(archive)
    }

    /// Files without the entry are older than it, and little-endian.
    fn check_byte_order(&mut self) -> Result<(), PthError> {
        let name = format!("{}/byteorder", self.root);
        if self.zip.index_for_name(&name).is_none() {
            return Ok(());
        }
        match self.entry(&name)?.as_slice() {
            b"little" => Ok(()),
            other => {
                let start = &other[..other.len().min(MAX_NAME)];
                Err(PthError::ByteOrder(String::from_utf8_lossy(start).into()))
            }
        }
    }

    fn pickle(&mut self) -> Result<Vec<u8>, PthError> {
        let name = format!("{}/data.pkl", self.root);
        if self.zip.by_name(&name)?.size() > MAX_PICKLE {
            return Err(PthError::TooLarge(name));
        }
        self.entry(&name)
    }

    fn entry(&mut self, name: &str) -> Result<Vec<u8>, PthError> {
        let size = {
            let entry = self.zip.by_name(name)?;
            if entry.compression() != CompressionMethod::Stored {
                return Err(PthError::Compressed(name.into()));
            }
            entry.size()
        };
        self.spend(size, name)?;
        let mut bytes = Vec::new();
        // One byte more: the checksum is compared when the entry's end is seen.
        self.zip.by_name(name)?.take(size.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != size {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(bytes)
    }

    fn spend(&mut self, bytes: u64, name: &str) -> Result<(), PthError> {
        self.budget =
            self.budget.checked_sub(bytes).ok_or_else(|| PthError::TooLarge(name.into()))?;
        Ok(())
    }

    /// Copies a view out of its storage.
    fn tensor(&mut self, name: &str, view: &View<'_>) -> Result<RawTensor, PthError> {
        let fault = |reason| PthError::Tensor { name: name.into(), reason };
        let key = view.storage.key;
        if !self.storages.contains_key(key) {
            let bytes = self.entry(&format!("{}/data/{key}", self.root))?;
            self.storages.insert(key.into(), bytes);
        }
        let width = view.storage.element.width();
        let stored = self.storages.get(key).map_or(0, Vec::len);
        if view.storage.elements.checked_mul(width) != Some(stored) {
            return Err(fault("its storage has not the length that the pickle says"));
        }
        let extent = view.extent().ok_or_else(|| fault("its shape is too large"))?;
        if extent.end > view.storage.elements {
            return Err(fault("it reaches beyond its storage"));
        }
        let size = extent.elements.checked_mul(width).ok_or_else(|| fault("too many elements"))?;
        let described = size_of::<RawTensor>() + name.len() + size_of_val(&view.shape[..]);
        self.spend(size as u64, name)?;
        self.spend(described as u64, name)?;
        let storage = self.storages.get(key).map_or(&[][..], Vec::as_slice);
        Ok(RawTensor {
            name: name.into(),
            element: view.storage.element,
            shape: view.shape.iter().map(|&side| side as i64).collect(),
            bytes: view.gather(storage, extent.elements),
        })
    }
}

/// A storage by its name in the archive.
#[derive(Clone, Copy)]
struct Storage<'a> {
    key: &'a str,
    element: Element,
    elements: usize,
}

/// A strided view of a storage; offset and strides in elements.
struct View<'a> {
    storage: Storage<'a>,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// How many elements a view has, and the first position behind its last.
struct Extent {
    elements: usize,
    end: usize,
}

impl View<'_> {
    /// `None` on overflow.
    fn extent(&self) -> Option<Extent> {
        let mut elements: usize = 1;
        let mut last = self.offset;
        for (&side, &stride) in self.shape.iter().zip(&self.strides) {
            // Counting an empty side as one bounds the others too: libtorch multiplies them.
            elements = elements.checked_mul(side.max(1))?;
            last = last.checked_add((side.max(1) - 1).checked_mul(stride)?)?;
        }
        i64::try_from(elements).ok()?;
        if self.shape.contains(&0) {
            return Some(Extent { elements: 0, end: 0 });
        }
        Some(Extent { elements, end: last.checked_add(1)? })
    }

    /// The view's bytes in row-major order; the extent must be inside the storage.
    fn gather(&self, storage: &[u8], elements: usize) -> Vec<u8> {
        let width = self.storage.element.width();
        if elements == 0 {
            return Vec::new();
        }
        if self.is_contiguous() {
            return storage[self.offset * width..][..elements * width].to_vec();
        }
        let mut bytes = Vec::with_capacity(elements * width);
        let mut index = vec![0; self.shape.len()];
        let mut at = self.offset;
        for _ in 0..elements {
            bytes.extend_from_slice(&storage[at * width..][..width]);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                at += self.strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                at -= self.strides[axis] * index[axis];
                index[axis] = 0;
            }
        }
        bytes
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&side, &stride)| {
            let fits = side == 1 || stride == expected;
            expected *= side;
            fits
        })
    }
}

/// A Python object; containers, tensors and storages by their position in the [`Machine`].
#[derive(Clone, Copy)]
enum Value<'a> {
    /// `None`, a truth value or a float: nothing a tensor depends on.
    Ignored,
    Int(i64),
    Text(&'a str),
    /// A tuple or list.
    Sequence(usize),
    Dictionary(usize),
    Global(Global),
    Storage(Storage<'a>),
    Tensor(usize),
}

/// The only names a pickle may refer to.
#[derive(Clone, Copy)]
enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Element),
}

impl Global {
    fn from_name(module: &str, name: &str) -> Result<Self, PthError> {
        match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Self::RebuildParameter),
            ("torch", class) => Element::from_storage(class).map(Self::Storage),
            _ => None,
        }
        .ok_or_else(|| PthError::UnknownGlobal(format!("{module}.{name}")))
    }
}

/// The pickle interpreter. Every instruction adds at most one object, so memory is proportional
/// to the pickle's length.
struct Machine<'a> {
    code: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    sequences: Vec<Vec<Value<'a>>>,
    dictionaries: Vec<Vec<(Value<'a>, Value<'a>)>>,
    tensors: Vec<View<'a>>,
}

impl<'a> Machine<'a> {
    fn new(code: &'a [u8]) -> Self {
        Self {
            code,
            at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            sequences: Vec::new(),
            dictionaries: Vec::new(),
            tensors: Vec::new(),
        }
    }

    /// Runs to the end and returns the pickled object.
    fn run(&mut self) -> Result<Value<'a>, PthError> {
        loop {
            let at = self.at;
            match self.byte()? {
                b'.' => return self.pop(),
                opcode => self.step(opcode, at)?,
            }
        }
    }

    /// The named tensors of the pickled object.
    fn state_dictionary(&self, object: Value<'a>) -> Result<Vec<(&'a str, &View<'a>)>, PthError> {
        let Value::Dictionary(top) = object else { return Err(PthError::NoTensors) };
        let nested =
            self.dictionaries[top].iter().rev().find_map(|&(key, value)| match (key, value) {
                (Value::Text(key), Value::Dictionary(at)) if NESTED.contains(&key) => Some(at),
                _ => None,
            });
        let tensors: Vec<_> = self.dictionaries[nested.unwrap_or(top)]
            .iter()
            .filter_map(|&(key, value)| match (key, value) {
                (Value::Text(name), Value::Tensor(at)) => Some((name, &self.tensors[at])),
                _ => None,
            })
            .collect();
        if tensors.is_empty() { Err(PthError::NoTensors) } else { Ok(tensors) }
    }

    /// One instruction, by its name in `pickletools`.
    fn step(&mut self, opcode: u8, at: usize) -> Result<(), PthError> {
        match opcode {
            // PROTO, FRAME: a version, and a length that only helps buffering.
            0x80 => self.take(1).map(drop)?,
            0x95 => self.take(8).map(drop)?,
            // NONE, NEWTRUE, NEWFALSE, BINFLOAT.
            b'N' | 0x88 | 0x89 => self.stack.push(Value::Ignored),
            b'G' => {
                self.take(8)?;
                self.stack.push(Value::Ignored);
            }
            // BININT, BININT1, BININT2, LONG1.
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(value.into()));
            }
            b'K' => {
                let value = self.byte()?;
                self.stack.push(Value::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(value.into()));
            }
            0x8a => self.long()?,
            // BINUNICODE, SHORT_BINUNICODE.
            b'X' => {
                let length = u32::from_le_bytes(self.array()?);
                self.text(length as usize)?;
            }
            0x8c => {
                let length = self.byte()?;
                self.text(length.into())?;
            }
            // BINPUT, LONG_BINPUT, MEMOIZE.
            b'q' => {
                let slot = self.byte()?;
                self.remember(slot.into())?;
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.remember(slot)?;
            }
            // As many memos as instructions at most, so the count fits.
            0x94 => self.remember(self.memo.len() as u32)?,
            // BINGET, LONG_BINGET.
            b'h' => {
                let slot = self.byte()?;
                self.recall(slot.into())?;
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.recall(slot)?;
            }
            // MARK, then EMPTY_TUPLE or EMPTY_LIST, TUPLE, TUPLE1 to TUPLE3.
            b'(' => self.marks.push(self.stack.len()),
            b')' | b']' => self.push_sequence(Vec::new()),
            b't' => {
                let items = self.pop_to_mark()?;
                self.push_sequence(items);
            }
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(opcode - 0x84))?;
                self.push_sequence(items);
            }
            // APPEND, APPENDS.
            b'a' => {
                let items = self.pop_many(1)?;
                self.append(items)?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            // EMPTY_DICT, SETITEM, SETITEMS.
            b'}' => self.push_dictionary(),
            b's' => {
                let items = self.pop_many(2)?;
                self.set_items(&items)?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            // GLOBAL, STACK_GLOBAL.
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.stack.push(Value::Global(Global::from_name(module, name)?));
            }
            0x93 => self.stack_global()?,
            // BINPERSID, REDUCE, BUILD.
            b'Q' => self.storage()?,
            b'R' => self.reduce()?,
            // Attributes of a dictionary (`_metadata`) or tensor: nothing that is needed.
            b'b' => self.pop().map(drop)?,
            opcode => return Err(PthError::UnknownOpcode { opcode, at }),
        }
        Ok(())
    }

    fn fault(&self, reason: &'static str) -> PthError {
        PthError::Pickle { at: self.at, reason }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], PthError> {
        let code = self.code;
        let rest = &code[self.at..];
        let taken = rest.get(..count).ok_or_else(|| self.fault("it ends early"))?;
        self.at += count;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, PthError> {
        Ok(self.array::<1>()?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PthError> {
        self.take(N)?.try_into().map_err(|_| self.fault("it ends early"))
    }

    fn line(&mut self) -> Result<&'a str, PthError> {
        let code = self.code;
        let rest = &code[self.at..];
        let length = rest.iter().take(MAX_NAME).position(|&b| b == b'\n');
        let length = length.ok_or_else(|| self.fault("a name does not end"))?;
        let line = &self.take(length + 1)?[..length];
        std::str::from_utf8(line).map_err(|_| self.fault("a name is not UTF-8"))
    }

    fn text(&mut self, length: usize) -> Result<(), PthError> {
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.fault("a text is not UTF-8"))?;
        self.stack.push(Value::Text(text));
        Ok(())
    }

    /// A little-endian two's complement integer of 0 to 255 bytes; those wider than 64 bits (a
    /// random seed, say) are of no use to a tensor.
    fn long(&mut self) -> Result<(), PthError> {
        let length = self.byte()?;
        let bytes = self.take(length.into())?;
        let negative = bytes.last().is_some_and(|&b| b >= 0x80);
        let mut wide = [if negative { 0xFF } else { 0 }; 8];
        let value = if let Some(low) = wide.get_mut(..bytes.len()) {
            low.copy_from_slice(bytes);
            Value::Int(i64::from_le_bytes(wide))
        } else {
            Value::Ignored
        };
        self.stack.push(value);
        Ok(())
    }

    /// What lies above the last mark may be popped, no more.
    fn pop_many(&mut self, count: usize) -> Result<Vec<Value<'a>>, PthError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let start = self.stack.len().checked_sub(count).filter(|&start| start >= floor);
        let start = start.ok_or_else(|| self.fault("the stack is empty"))?;
        Ok(self.stack.split_off(start))
    }

    fn pop(&mut self) -> Result<Value<'a>, PthError> {
        Ok(self.pop_many(1)?[0])
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>, PthError> {
        let mark = self.marks.pop().ok_or_else(|| self.fault("a mark is missing"))?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&self) -> Result<Value<'a>, PthError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let above = self.stack.get(floor..).and_then(|values| values.last());
        above.copied().ok_or_else(|| self.fault("the stack is empty"))
    }

    fn remember(&mut self, slot: u32) -> Result<(), PthError> {
        self.memo.insert(slot, self.top()?);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<(), PthError> {
        let value = self.memo.get(&slot).copied();
        self.stack.push(value.ok_or_else(|| self.fault("it recalls what was never stored"))?);
        Ok(())
    }

    fn push_sequence(&mut self, items: Vec<Value<'a>>) {
        self.stack.push(Value::Sequence(self.sequences.len()));
        self.sequences.push(items);
    }

    fn push_dictionary(&mut self) {
        self.stack.push(Value::Dictionary(self.dictionaries.len()));
        self.dictionaries.push(Vec::new());
    }

    fn append(&mut self, items: Vec<Value<'a>>) -> Result<(), PthError> {
        let Value::Sequence(at) = self.top()? else {
            return Err(self.fault("it appends to what is no list"));
        };
        self.sequences[at].extend(items);
        Ok(())
    }

    fn set_items(&mut self, items: &[Value<'a>]) -> Result<(), PthError> {
        let Value::Dictionary(at) = self.top()? else {
            return Err(self.fault("it sets items of what is no dictionary"));
        };
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.fault("a key has no value"));
        }
        self.dictionaries[at].extend(pairs.iter().map(|&[key, value]| (key, value)));
        Ok(())
    }

    fn stack_global(&mut self) -> Result<(), PthError> {
        let pair = self.pop_many(2)?;
        let [Value::Text(module), Value::Text(name)] = pair[..] else {
            return Err(self.fault("a global has no name"));
        };
        if module.len().max(name.len()) > MAX_NAME {
            return Err(self.fault("a name does not end"));
        }
        self.stack.push(Value::Global(Global::from_name(module, name)?));
        Ok(())
    }

    /// `("storage", class, key, device, elements)` becomes a storage.
    fn storage(&mut self) -> Result<(), PthError> {
        let Value::Sequence(id) = self.pop()? else {
            return Err(self.fault("a storage is not described by a tuple"));
        };
        let [
            Value::Text("storage"),
            Value::Global(Global::Storage(element)),
            Value::Text(key),
            Value::Text(_),
            Value::Int(elements),
        ] = self.sequences[id][..]
        else {
            return Err(self.fault("a storage's description is not understood"));
        };
        let elements =
            usize::try_from(elements).map_err(|_| self.fault("a storage's length is negative"))?;
        self.stack.push(Value::Storage(Storage { key, element, elements }));
        Ok(())
    }

    /// Stands in for the call of a known function.
    fn reduce(&mut self) -> Result<(), PthError> {
        let call = self.pop_many(2)?;
        let [Value::Global(function), Value::Sequence(arguments)] = call[..] else {
            return Err(self.fault("it calls what is no function"));
        };
        match (function, &self.sequences[arguments][..]) {
            (Global::OrderedDict, []) => self.push_dictionary(),
            (Global::RebuildParameter, &[tensor @ Value::Tensor(_), _, _]) => {
                self.stack.push(tensor);
            }
            (
                Global::RebuildTensor,
                &[
                    Value::Storage(storage),
                    Value::Int(offset),
                    Value::Sequence(shape),
                    Value::Sequence(strides),
                    _,
                    _,
                ],
            ) => {
                let offset = usize::try_from(offset)
                    .map_err(|_| self.fault("a tensor's offset is negative"))?;
                let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
                if shape.len() != strides.len() {
                    return Err(self.fault("a tensor's shape and strides differ in length"));
                }
                self.stack.push(Value::Tensor(self.tensors.len()));
                self.tensors.push(View { storage, offset, shape, strides });
            }
            _ => return Err(self.fault("a call's arguments are not understood")),
        }
        Ok(())
    }

    fn sizes(&self, sequence: usize) -> Result<Vec<usize>, PthError> {
        let values = &self.sequences[sequence];
        if values.len() > MAX_DIMENSIONS {
            return Err(self.fault("a tensor has too many dimensions"));
        }
        let size = |value: &Value<'a>| match value {
            Value::Int(size) => usize::try_from(*size).ok(),
            _ => None,
        };
        let sizes: Option<Vec<usize>> = values.iter().map(size).collect();
        sizes.ok_or_else(|| self.fault("a tensor's shape or stride is no natural number"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    // One OrderedDict with its `_metadata`, saved by PyTorch 1.12.1 and by 2.11.0 (which adds a
    // `byteorder` entry). By 1.12.1, a training checkpoint that has an OrderedDict under
    // `state_dict`, beside numbers, a list and nested tuples.
    const STATE: &[u8] = include_bytes!("fixtures/state-1.12.1.pth");
    const STATE_2_11: &[u8] = include_bytes!("fixtures/state-2.11.0.pth");
    const CHECKPOINT: &[u8] = include_bytes!("fixtures/checkpoint-1.12.1.pth");

    fn parse(bytes: &[u8]) -> Result<Vec<RawTensor>, PthError> {
        raw_tensors(Cursor::new(bytes.to_vec()))
    }

    fn refusal(bytes: &[u8]) -> PthError {
        parse(bytes).err().expect("must be refused")
    }

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        for (name, bytes) in entries {
            zip.start_file(format!("archive/{name}"), stored).expect("entry");
            zip.write_all(bytes).expect("content");
        }
        zip.finish().expect("archive").into_inner()
    }

    fn archive_of(pickle: &[u8]) -> Vec<u8> {
        archive(&[("data.pkl", pickle), ("data/0", &[0; 16])])
    }

    /// `{"w": tensor}`: a view of storage 0, which has four floats.
    fn pickle_of_view(offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
        let int = |value: &i32| [&b"J"[..], &value.to_le_bytes()].concat();
        let tuple = |values: &[i32]| {
            [b"(".to_vec(), values.iter().flat_map(int).collect(), b"t".to_vec()].concat()
        };
        [
            b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(".to_vec(),
            b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ"
                .to_vec(),
            int(&offset),
            tuple(shape),
            tuple(strides),
            b"\x89ccollections\nOrderedDict\n)RtRs.".to_vec(),
        ]
        .concat()
    }

    /// Element bytes of `f(0), f(1), ...`.
    fn bytes_of<const N: usize>(count: usize, f: impl Fn(usize) -> [u8; N]) -> Vec<u8> {
        (0..count).flat_map(f).collect()
    }

    fn floats(count: usize, f: impl Fn(f32) -> f32) -> Vec<u8> {
        bytes_of(count, |i| f(i as f32).to_le_bytes())
    }

    #[test]
    fn a_state_dictionary_of_pytorch_is_read() {
        let expected: Vec<(&str, Element, &[i64], Vec<u8>)> = vec![
            ("conv.weight", Element::Float, &[2, 2, 3, 3], floats(36, |i| i * 0.5 - 4.0)),
            // A parameter, not a plain tensor.
            ("conv.bias", Element::Float, &[2], floats(2, |i| i + 0.25)),
            (
                "bn.num_batches_tracked",
                Element::Int64,
                &[],
                1_234_567_890_123_i64.to_le_bytes().into(),
            ),
            // arange(6) as 2 x 3, transposed.
            (
                "transposed",
                Element::Double,
                &[3, 2],
                bytes_of(6, |i| ((i % 2 * 3 + i / 2) as f64).to_le_bytes()),
            ),
            // [:10] and [31::2] of one storage, arange(40).
            ("shared.head", Element::Float, &[2, 5], floats(10, |i| i)),
            ("shared.tail", Element::Float, &[5], floats(5, |i| 31.0 + 2.0 * i)),
            // Quarters from 0 to 0.75 in IEEE half precision.
            (
                "half",
                Element::Half,
                &[4],
                bytes_of(4, |i| [0x0000_u16, 0x3400, 0x3800, 0x3A00][i].to_le_bytes()),
            ),
            // bfloat16 is the upper half of a float: -1, 0, 1.
            (
                "brain",
                Element::BFloat16,
                &[3],
                bytes_of(3, |i| (((i as f32 - 1.0).to_bits() >> 16) as u16).to_le_bytes()),
            ),
            ("expanded", Element::Float, &[2, 3], floats(6, |_| 7.0)),
            ("empty", Element::Float, &[0, 4], vec![]),
        ];
        for file in [STATE, STATE_2_11] {
            let tensors = parse(file).expect("state dictionary");
            assert_eq!(tensors.len(), expected.len());
            for (tensor, (name, element, shape, bytes)) in tensors.iter().zip(&expected) {
                assert_eq!(tensor.name, *name);
                assert_eq!(tensor.element, *element, "{name}");
                assert_eq!(tensor.shape, *shape, "{name}");
                assert_eq!(tensor.bytes, *bytes, "{name}");
            }
        }
    }

    #[test]
    fn a_nested_state_dictionary_is_found_and_numbers_are_skipped() {
        let tensors = parse(CHECKPOINT).expect("checkpoint");
        let names: Vec<_> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, ["fc.weight"]);
        assert_eq!(tensors[0].bytes, floats(4, |i| i));
    }

    #[test]
    fn tensors_arrive_in_libtorch() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("state.pth");
        std::fs::write(&path, STATE).expect("fixture");
        let tensors = read(&path).expect("state dictionary");
        let (name, transposed) = &tensors[3];
        assert_eq!(name, "transposed");
        assert_eq!((transposed.size(), transposed.kind()), (vec![3, 2], Kind::Double));
        assert_eq!(transposed.double_value(&[2, 1]), 5.0);
        assert_eq!(tensors[6].1.double_value(&[3]), 0.75);
    }

    #[test]
    fn a_foreign_function_is_refused_by_name() {
        let calls: [&[u8]; 2] = [
            b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.",
            b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        ];
        for call in calls {
            let error = refusal(&archive_of(call));
            assert!(matches!(&error, PthError::UnknownGlobal(name) if name == "os.system"));
        }
    }

    #[test]
    fn a_truncated_or_altered_file_is_refused() {
        for length in 0..STATE.len() {
            assert!(parse(&STATE[..length]).is_err(), "{length} bytes");
        }
        let weights = floats(36, |i| i * 0.5 - 4.0);
        let at = STATE.windows(weights.len()).position(|part| part == weights).expect("weights");
        let mut altered = STATE.to_vec();
        altered[at] ^= 1;
        assert!(matches!(refusal(&altered), PthError::Io(_)));
    }

    #[test]
    fn no_altered_pickle_panics() {
        let pickle = pickle_of_view(1, &[3, 1], &[1, 1]);
        assert!(parse(&archive_of(&pickle)).is_ok());
        let mut refused = 0;
        for at in 0..pickle.len() {
            for value in 0..=u8::MAX {
                let mut altered = pickle.clone();
                altered[at] = value;
                refused += usize::from(parse(&archive_of(&altered)).is_err());
            }
            assert!(parse(&archive_of(&pickle[..at])).is_err(), "{at} bytes");
        }
        assert!(refused > pickle.len() * 128, "{refused}");
    }

    #[test]
    fn a_view_must_lie_inside_its_storage() {
        let read = |offset, shape: &[i32], strides: &[i32]| {
            parse(&archive_of(&pickle_of_view(offset, shape, strides)))
        };
        assert_eq!(read(0, &[2, 2], &[2, 1]).expect("whole")[0].bytes.len(), 16);
        assert_eq!(read(3, &[], &[]).expect("last element")[0].bytes.len(), 4);
        for (offset, shape, strides) in [
            (1, [2, 2], [2, 1]),
            (0, [2, 2], [3, 1]),
            (4, [1, 1], [1, 1]),
            (0, [i32::MAX; 2], [1; 2]),
        ] {
            let error = read(offset, &shape, &strides).err().expect("outside");
            assert!(matches!(error, PthError::Tensor { ref name, .. } if name == "w"), "{error}");
        }
        for (offset, shape, strides) in [(-1, [1], [1]), (0, [-1], [1]), (0, [1], [-1])] {
            let error = read(offset, &shape, &strides).err().expect("negative");
            assert!(matches!(error, PthError::Pickle { .. }), "{error}");
        }
        assert!(matches!(read(0, &[1; 9], &[1; 9]), Err(PthError::Pickle { .. })));
    }

    #[test]
    fn an_oversized_shape_allocates_nothing() {
        // A stride of zero repeats one element: 2^40 of them from a storage of four.
        let error = refusal(&archive_of(&pickle_of_view(0, &[1 << 20, 1 << 20], &[0, 0])));
        assert!(matches!(&error, PthError::TooLarge(name) if name == "w"), "{error}");
        let overflow = refusal(&archive_of(&pickle_of_view(0, &[i32::MAX; 4], &[0; 4])));
        assert!(matches!(overflow, PthError::Tensor { .. }), "{overflow}");
    }

    #[test]
    fn deep_nesting_is_harmless() {
        let mut pickle = b"\x80\x02)".to_vec();
        pickle.resize(1 << 20, 0x85);
        pickle.push(b'.');
        assert!(matches!(refusal(&archive_of(&pickle)), PthError::NoTensors));
    }

    #[test]
    fn other_formats_have_a_reason() {
        let legacy = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";
        assert!(matches!(refusal(legacy), PthError::Legacy));
        assert!(matches!(refusal(b"weights"), PthError::Foreign));
        assert!(matches!(refusal(&archive(&[("readme", b"")])), PthError::Foreign));
        let pickle = pickle_of_view(0, &[4], &[1]);
        let ordered = |order: &[u8]| {
            parse(&archive(&[("data.pkl", &pickle), ("byteorder", order), ("data/0", &[0; 16])]))
        };
        assert!(ordered(b"little").is_ok());
        assert!(matches!(ordered(b"big"), Err(PthError::ByteOrder(order)) if order == "big"));
        let short = archive(&[("data.pkl", &pickle), ("data/0", &[0; 12])]);
        assert!(matches!(refusal(&short), PthError::Tensor { .. }));
    }
}
