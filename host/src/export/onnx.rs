//! The part of ONNX's protobuf schema (`onnx.proto3`, IR version 8) that a feed-forward network
//! needs; field numbers are the schema's.

use prost::Message;

/// `TensorProto.DataType` of 32-bit floats.
pub const FLOAT: i32 = 1;
/// `TensorProto.DataType` of signed bytes.
pub const INT8: i32 = 3;
/// `TensorProto.DataType` of 32-bit integers.
pub const INT32: i32 = 6;

/// A model file.
#[derive(Clone, PartialEq, Message)]
pub struct ModelProto {
    /// Version of the intermediate representation.
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// Program that wrote the file.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// The network.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    /// Operator sets used.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
}

/// An operator set.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSetIdProto {
    /// Empty for ONNX's own.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// Its version.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// A network.
#[derive(Clone, PartialEq, Message)]
pub struct GraphProto {
    /// Steps, inputs before users.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    /// Name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Constants.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    /// What the caller supplies.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    /// What the caller gets.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
}

/// One step.
#[derive(Clone, PartialEq, Message)]
pub struct NodeProto {
    /// Names of operands.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of results.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Operator.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// Settings.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
}

/// One setting of a step.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Integer value.
    #[prost(int64, tag = "3")]
    pub i: i64,
    /// Integer values.
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    /// Which value counts: 2 for `i`, 7 for `ints`.
    #[prost(int32, tag = "20")]
    pub r#type: i32,
}

/// A constant.
#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    /// Shape.
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    /// Element type.
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    /// Name.
    #[prost(string, tag = "8")]
    pub name: String,
    /// Elements, little-endian.
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
}

/// Name and type of an input or output.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfoProto {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Type.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
}

/// A type; only tensors here.
#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    /// The tensor type.
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorTypeProto>,
}

/// A tensor type.
#[derive(Clone, PartialEq, Message)]
pub struct TensorTypeProto {
    /// Element type.
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    /// Shape.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// A shape.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {
    /// Sizes.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<DimensionProto>,
}

/// One size.
#[derive(Clone, PartialEq, Message)]
pub struct DimensionProto {
    /// Its value.
    #[prost(int64, tag = "1")]
    pub dim_value: i64,
}

impl AttributeProto {
    /// An integer setting.
    pub fn int(name: &str, value: usize) -> Self {
        Self { name: name.into(), i: value as i64, ints: vec![], r#type: 2 }
    }

    /// A setting of several integers.
    pub fn ints(name: &str, values: &[usize]) -> Self {
        let ints = values.iter().map(|&v| v as i64).collect();
        Self { name: name.into(), i: 0, ints, r#type: 7 }
    }
}

impl TensorProto {
    /// 32-bit floats.
    pub fn floats(name: &str, dims: &[usize], values: &[f32]) -> Self {
        Self::raw(name, dims, FLOAT, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// Signed bytes.
    pub fn bytes(name: &str, dims: &[usize], values: &[i8]) -> Self {
        Self::raw(name, dims, INT8, values.iter().map(|&v| v as u8).collect())
    }

    /// 32-bit integers.
    pub fn ints(name: &str, dims: &[usize], values: &[i32]) -> Self {
        Self::raw(name, dims, INT32, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    fn raw(name: &str, dims: &[usize], data_type: i32, raw_data: Vec<u8>) -> Self {
        let dims = dims.iter().map(|&d| d as i64).collect();
        Self { dims, data_type, name: name.into(), raw_data }
    }
}

impl ValueInfoProto {
    /// A tensor of 32-bit floats.
    pub fn floats(name: &str, dims: &[usize]) -> Self {
        let dim = dims.iter().map(|&d| DimensionProto { dim_value: d as i64 }).collect();
        let tensor = TensorTypeProto { elem_type: FLOAT, shape: Some(TensorShapeProto { dim }) };
        Self { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
    }
}
