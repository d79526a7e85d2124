//! A rig of one gear between two endpoints of this program, so that a gear can be tried like a function:
//! JSON in; JSON and the reasons of what was rejected out.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fluxrig_actors::Built;
use fluxrig_actors::prelude::*;
use serde_json::{Value as Json, json};

/// Runs one gear over some messages.
pub(crate) async fn run(gear: Built, inputs: &[Json]) -> Json {
    let sink = Sink::default();
    let rig = Rig::new("try").endpoint("source", Source(inputs.to_vec())).built("gear", gear);
    let rig = rig.endpoint("sink", sink.clone()).turbo("source", "gear").turbo("gear", "sink");
    let rig = rig.start().await.expect("the rig is whole");
    rig.finished().await;
    let letters = rig.dead_letters().expect("they are in memory");
    rig.stop(Duration::from_secs(1)).await;
    let out = sink.0.lock().expect("nobody panicked with it").clone();
    json!({ "out": out, "rejected": letters.iter().map(|letter| letter.reason.as_str()).collect::<Vec<_>>() })
}

/// Lets in a message for each object of numbers.
struct Source(Vec<Json>);

impl Endpoint for Source {
    const TYPE: &'static str = "try_source";

    fn ports(&self) -> Ports {
        Ports::source()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let door = io.door();
        for input in &self.0 {
            let mut msg = io.message();
            msg.data = fields(input);
            door.admit(msg).await.map_err(|refused| GearError::broken(refused.to_string()))?;
        }
        Ok(())
    }
}

/// Keeps what comes in.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<Json>>>);

impl Endpoint for Sink {
    const TYPE: &'static str = "try_sink";

    fn ports(&self) -> Ports {
        Ports::sink()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let mut effects = io.effects();
        while let Some(effect) = effects.take().await {
            self.0.lock().expect("nobody panicked with it").push(object(&effect.msg.data));
            effect.done();
        }
        Ok(())
    }
}

fn fields(input: &Json) -> Map {
    input.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), field(value))).collect()
}

fn field(json: &Json) -> Value {
    match json {
        Json::Object(_) => fields(json).into(),
        Json::String(text) => text.into(),
        Json::Number(number) => match number.as_i64() {
            Some(int) => int.into(),
            None => number.as_f64().map_or(Value::Null, Value::from),
        },
        Json::Bool(is_true) => (*is_true).into(),
        Json::Array(values) => values.iter().map(field).collect::<Vec<Value>>().into(),
        Json::Null => Value::Null,
    }
}

fn object(map: &Map) -> Json {
    map.iter().map(|(key, value)| (key.to_owned(), json_of(value))).collect::<serde_json::Map<_, _>>().into()
}

fn json_of(value: &Value) -> Json {
    match value {
        Value::Map(map) => object(map),
        Value::Text(text) => text.as_str().into(),
        Value::Int(int) => i64::try_from(*int).map_or_else(|_| int.to_string().into(), Json::from),
        Value::Float(float) => (*float).into(),
        Value::Bool(is_true) => (*is_true).into(),
        Value::Array(values) => values.iter().map(json_of).collect::<Vec<_>>().into(),
        Value::Bytes(bytes) => bytes.to_vec().into(),
        Value::Null => Json::Null,
    }
}
