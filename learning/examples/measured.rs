//! The CPU evaluator as a process that `bench/inference.py` asks: it answers one line on stdin with one line on stdout.
//!
//! `measured make CONFIGURATION SHAPE FOLDER` writes an untrained model and what a reader of it has to know;
//! `measured serve FOLDER INPUTS` reads positions (`planes`, then `globals`, one after the other, as little-endian `f32`)
//! and answers `run BATCH SECONDS` with evaluations per second of processor time and per second of the clock, and
//! `outputs BATCH` with the logits and values of the first positions.

use std::error::Error;
use std::fs;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use riftmesh_base::Seed;
use riftmesh_learning::codec::Codec;
use riftmesh_learning::frame::Frame;
use riftmesh_learning::infer::{Inference, PositionInput};
use riftmesh_learning::train::untrained;
use riftmesh_learning::{Checkpoint, CpuNet, NetShape};
use riftmesh_rules::Configuration;
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Legal actions of a decision, on average.
const ACTIONS: u32 = 40;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match texts[..] {
        ["make", configuration, shape, folder] => {
            make(configuration.parse()?, shape.parse()?, Path::new(folder))
        }
        ["serve", folder, inputs] => Server::load(Path::new(folder), Path::new(inputs))?.serve(),
        _ => Err("measured make CONFIGURATION SHAPE FOLDER | serve FOLDER INPUTS".into()),
    }
}

/// The actions whose logits are asked for.
fn actions(configuration: Configuration) -> Vec<u32> {
    let size = Codec::of(configuration.board()).size() as u32;
    (0..ACTIONS).map(|index| index * (size / ACTIONS)).collect()
}

fn make(configuration: Configuration, shape: NetShape, folder: &Path) -> Outcome<()> {
    fs::create_dir_all(folder)?;
    let model = untrained(configuration, shape, Seed(1), "measured");
    model.write(&folder.join("manifest"), &folder.join("weights"))?;
    let frame = Frame::of(configuration.board());
    let description = json!({
        "configuration": configuration.to_string(),
        "players": configuration.players(),
        "cells": frame.cells(),
        "side": frame.side(),
        "squares": frame.squares(),
        "taps": frame.taps(),
        "actions": actions(configuration),
    });
    Ok(fs::write(
        folder.join("frame.json"),
        description.to_string(),
    )?)
}

struct Server {
    net: CpuNet,
    batch: Positions,
}

struct Positions {
    /// Numbers in the planes of a position, and in its globals.
    planes: usize,
    globals: usize,
    numbers: Vec<f32>,
    actions: Vec<u32>,
    players: usize,
}

impl Server {
    fn load(folder: &Path, inputs: &Path) -> Outcome<Self> {
        let model = Checkpoint::read(&folder.join("manifest"), &folder.join("weights"))?;
        let configuration: Configuration = model.manifest.configuration.as_str().parse()?;
        let frame = Frame::of(configuration.board());
        let bytes = fs::read(inputs)?;
        let numbers = bytes.as_chunks::<4>().0.iter();
        Ok(Self {
            net: CpuNet::new(&model.weights, frame),
            batch: Positions {
                planes: model.manifest.dims.planes * frame.area(),
                globals: model.manifest.dims.globals,
                numbers: numbers.map(|four| f32::from_le_bytes(*four)).collect(),
                actions: actions(configuration),
                players: configuration.players(),
            },
        })
    }

    fn serve(mut self) -> Outcome<()> {
        for line in std::io::stdin().lock().lines() {
            let line = line?;
            let words: Vec<&str> = line.split_whitespace().collect();
            let answer = match words[..] {
                ["run", batch, seconds] => self.run(batch.parse()?, seconds.parse()?)?,
                ["outputs", batch] => self.outputs(batch.parse()?)?,
                _ => return Err(format!("`{line}` is no question").into()),
            };
            let mut out = std::io::stdout().lock();
            writeln!(out, "{answer}")?;
            out.flush()?;
        }
        Ok(())
    }

    fn run(&mut self, batch: usize, seconds: f64) -> Outcome<Value> {
        let inputs = self.batch.inputs(batch)?;
        let wanted = Duration::from_secs_f64(seconds);
        self.net.infer(&inputs);
        let (begin, busy, mut done) = (Instant::now(), processor_seconds()?, 0);
        while begin.elapsed() < wanted {
            self.net.infer(&inputs);
            done += batch;
        }
        let (elapsed, busy) = (begin.elapsed().as_secs_f64(), processor_seconds()? - busy);
        let done = done as f64;
        Ok(json!({ "per_processor_second": done / busy, "per_second": done / elapsed }))
    }

    fn outputs(&mut self, batch: usize) -> Outcome<Value> {
        let results = self.net.infer(&self.batch.inputs(batch)?);
        let logits: Vec<_> = results.iter().map(|result| &result.logits).collect();
        let values: Vec<_> = results.iter().map(|result| result.values).collect();
        Ok(json!({ "logits": logits, "values": values }))
    }
}

impl Positions {
    fn inputs(&self, batch: usize) -> Outcome<Vec<PositionInput<'_>>> {
        let length = self.planes + self.globals;
        let numbers = self.numbers.get(..batch * length);
        let numbers = numbers.ok_or("there are fewer positions than that")?;
        let positions = numbers.chunks_exact(length).map(|position| {
            let (planes, globals) = position.split_at(self.planes);
            PositionInput {
                planes,
                globals,
                actions: &self.actions,
                players: self.players,
            }
        });
        Ok(positions.collect())
    }
}

/// Processor time of this thread, which does all the work, as Linux counts it.
fn processor_seconds() -> Outcome<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split_whitespace().next().unwrap_or_default().parse()?;
    Ok(nanoseconds / 1e9)
}
