//! Reading ONNX nodes and constants, as the loader's protobuf types give them.

use std::collections::HashMap;

use tract_onnx::pb::{GraphProto, NodeProto, TensorProto, tensor_proto::DataType};

/// Why a graph cannot be read or fused. Every message names the node or constant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// A constant is missing.
    #[error("constant `{0}` is missing")]
    Missing(String),
    /// A constant has another type or length than its use needs.
    #[error("constant `{name}` is not {expected}")]
    Constant {
        /// Its name.
        name: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A node does not fit where it stands.
    #[error("node `{node}` ({op}): {problem}")]
    Node {
        /// Its name.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong.
        problem: String,
    },
    /// The graph has no output of this name.
    #[error("the graph computes no `{0}`")]
    NoOutput(&'static str),
}

/// The constants of a graph, by name.
#[derive(Debug, Default)]
pub struct Constants(HashMap<String, TensorProto>);

impl Constants {
    /// Takes the constants out of a graph.
    pub fn take(graph: &mut GraphProto) -> Self {
        Self(graph.initializer.drain(..).map(|tensor| (tensor.name.clone(), tensor)).collect())
    }

    /// Removes a constant, so that its memory can be freed after use.
    ///
    /// # Errors
    /// When it is missing.
    pub fn remove(&mut self, name: &str) -> Result<TensorProto, GraphError> {
        self.0.remove(name).ok_or_else(|| GraphError::Missing(name.into()))
    }

    /// A constant's dimensions.
    ///
    /// # Errors
    /// When it is missing.
    pub fn dims(&self, name: &str) -> Result<Vec<usize>, GraphError> {
        Ok(self.get(name)?.dims.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect())
    }

    /// The values of a constant of `f32`.
    ///
    /// # Errors
    /// When it is missing or of another type.
    pub fn floats(&self, name: &str) -> Result<Vec<f32>, GraphError> {
        let tensor = self.get(name)?;
        if tensor.data_type == DataType::Float as i32 && !tensor.float_data.is_empty() {
            return Ok(tensor.float_data.clone());
        }
        let bytes = raw(tensor, DataType::Float, "a list of float32")?;
        Ok(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    /// The values of a constant of `i32`.
    ///
    /// # Errors
    /// When it is missing or of another type.
    pub fn integers(&self, name: &str) -> Result<Vec<i32>, GraphError> {
        let tensor = self.get(name)?;
        if tensor.data_type == DataType::Int32 as i32 && !tensor.int32_data.is_empty() {
            return Ok(tensor.int32_data.clone());
        }
        let bytes = raw(tensor, DataType::Int32, "a list of int32")?;
        Ok(bytes.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect())
    }

    /// The values of a constant of `i8`.
    ///
    /// # Errors
    /// When it is missing or of another type.
    pub fn steps(&self, name: &str) -> Result<Vec<i8>, GraphError> {
        let tensor = self.get(name)?;
        if tensor.data_type == DataType::Int8 as i32 && !tensor.int32_data.is_empty() {
            let narrow = |value: &i32| i8::try_from(*value).ok();
            let steps: Option<Vec<_>> = tensor.int32_data.iter().map(narrow).collect();
            return steps.ok_or(GraphError::Constant { name: name.into(), expected: "int8" });
        }
        let bytes = raw(tensor, DataType::Int8, "a list of int8")?;
        Ok(bytes.iter().map(|byte| byte.cast_signed()).collect())
    }

    /// The value of a constant that holds one `f32`.
    ///
    /// # Errors
    /// When it is missing or anything else.
    pub fn float(&self, name: &str) -> Result<f32, GraphError> {
        single(name, &self.floats(name)?, "one float32")
    }

    /// The value of a constant that holds one `i8`.
    ///
    /// # Errors
    /// When it is missing or anything else.
    pub fn step(&self, name: &str) -> Result<i8, GraphError> {
        single(name, &self.steps(name)?, "one int8")
    }

    /// What is left, in no particular order.
    pub fn into_rest(self) -> impl Iterator<Item = TensorProto> {
        self.0.into_values()
    }

    fn get(&self, name: &str) -> Result<&TensorProto, GraphError> {
        self.0.get(name).ok_or_else(|| GraphError::Missing(name.into()))
    }
}

fn raw<'a>(
    tensor: &'a TensorProto,
    data_type: DataType,
    expected: &'static str,
) -> Result<&'a [u8], GraphError> {
    let values: usize = tensor.dims.iter().map(|&d| usize::try_from(d).unwrap_or(0)).product();
    let width = if data_type == DataType::Int8 { 1 } else { 4 };
    if tensor.data_type == data_type as i32 && tensor.raw_data.len() == values * width {
        Ok(&tensor.raw_data)
    } else {
        Err(GraphError::Constant { name: tensor.name.clone(), expected })
    }
}

fn single<T: Copy>(name: &str, values: &[T], expected: &'static str) -> Result<T, GraphError> {
    match values {
        [value] => Ok(*value),
        _ => Err(GraphError::Constant { name: name.into(), expected }),
    }
}

/// Questions to a node.
pub trait Node {
    /// An operand's name.
    ///
    /// # Errors
    /// When there are fewer.
    fn operand(&self, at: usize) -> Result<&str, GraphError>;

    /// The only result's name.
    ///
    /// # Errors
    /// When there is another number of results.
    fn result(&self) -> Result<&str, GraphError>;

    /// An attribute of integers; `default` where it is absent.
    fn integers<const N: usize>(
        &self,
        name: &str,
        default: [usize; N],
    ) -> Result<[usize; N], GraphError>;

    /// An attribute of one integer; `default` where it is absent.
    fn integer(&self, name: &str, default: i64) -> i64;

    /// An error about the node.
    fn problem(&self, problem: impl Into<String>) -> GraphError;
}

impl Node for NodeProto {
    fn operand(&self, at: usize) -> Result<&str, GraphError> {
        self.input
            .get(at)
            .map(String::as_str)
            .filter(|name| !name.is_empty())
            .ok_or_else(|| self.problem(format!("operand {at} is missing")))
    }

    fn result(&self) -> Result<&str, GraphError> {
        match &self.output[..] {
            [name] => Ok(name),
            _ => Err(self.problem("it must have one result")),
        }
    }

    fn integers<const N: usize>(
        &self,
        name: &str,
        default: [usize; N],
    ) -> Result<[usize; N], GraphError> {
        let Some(attribute) = self.attribute.iter().find(|a| a.name == name) else {
            return Ok(default);
        };
        let values: Option<Vec<usize>> =
            attribute.ints.iter().map(|v| usize::try_from(*v).ok()).collect();
        values
            .and_then(|values| values.try_into().ok())
            .ok_or_else(|| self.problem(format!("attribute {name} needs {N} values, not negative")))
    }

    fn integer(&self, name: &str, default: i64) -> i64 {
        self.attribute.iter().find(|a| a.name == name).map_or(default, |a| a.i)
    }

    fn problem(&self, problem: impl Into<String>) -> GraphError {
        GraphError::Node {
            node: self.name.clone(),
            op: self.op_type.clone(),
            problem: problem.into(),
        }
    }
}
