//! What a job child gets from its node, made up from the command line: an assignment with its files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use riftmesh_base::{BlobHash, ConfigurationName, JobId, Seed};
use riftmesh_learning::checkpoint::Manifest;

use super::LocalArgs;
use super::bar::Bar;
use crate::cli::model_files::{ModelFiles, read_manifest};
use crate::cli::talk;
use crate::interrupt::stop_flag;
use crate::job::payload::Payload;
use crate::job::run;
use crate::job::wire::{Assignment, Made};

/// The folder of optimiser states beside a model, as a worker has one.
const OPTIMIZERS: &str = "optimizers";

/// Runs jobs in this process.
pub struct LocalBench<'a> {
    args: &'a LocalArgs,
    configuration: ConfigurationName,
    inputs: BTreeMap<BlobHash, PathBuf>,
    manifests: BTreeMap<BlobHash, PathBuf>,
    stop: Arc<AtomicBool>,
}

impl<'a> LocalBench<'a> {
    /// A bench for one configuration. From now on Ctrl-C ends the work instead of the process.
    ///
    /// # Errors
    /// Signals cannot be had.
    pub fn new(args: &'a LocalArgs, configuration: &ConfigurationName) -> anyhow::Result<Self> {
        Ok(Self {
            args,
            configuration: configuration.clone(),
            inputs: BTreeMap::new(),
            manifests: BTreeMap::new(),
            stop: stop_flag(|| talk("stopping; what is whole is kept"))?,
        })
    }

    /// Makes the model at `path` an input; its hash.
    ///
    /// # Errors
    /// There is no model, or its weights are not there.
    pub fn add_model(&mut self, path: &Path) -> anyhow::Result<BlobHash> {
        let files = ModelFiles::find(path, None)?;
        let hash = read_manifest(&files.manifest)?.weights;
        self.manifests.insert(hash, files.manifest);
        self.inputs.insert(hash, files.weights);
        Ok(hash)
    }

    /// The manifest of the model at `path`.
    ///
    /// # Errors
    /// There is none.
    pub fn manifest(&self, path: &Path) -> anyhow::Result<Manifest> {
        read_manifest(&ModelFiles::find(path, None)?.manifest)
    }

    /// Makes the file at `path` an input; its hash.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn add_file(&mut self, path: &Path) -> anyhow::Result<BlobHash> {
        let file = fs::File::open(path).with_context(|| path.display().to_string())?;
        let mut hasher = blake3::Hasher::new();
        hasher
            .update_reader(file)
            .with_context(|| path.display().to_string())?;
        let hash = BlobHash(*hasher.finalize().as_bytes());
        self.inputs.insert(hash, path.to_owned());
        Ok(hash)
    }

    /// Lets training from the model at `parent` go on with the optimiser's state that its own training left there.
    ///
    /// # Errors
    /// The state is there and cannot be copied.
    pub fn take_optimizer(&self, parent: &Path, model: BlobHash, out: &Path) -> anyhow::Result<()> {
        let folder = if parent.is_dir() {
            parent
        } else {
            parent.parent().unwrap_or(Path::new("."))
        };
        let name = format!("{model}.safetensors");
        let (from, to) = (folder.join(OPTIMIZERS).join(&name), out.join(OPTIMIZERS));
        if from.is_file() && folder != out {
            fs::create_dir_all(&to).with_context(|| to.display().to_string())?;
            fs::copy(&from, to.join(&name)).with_context(|| from.display().to_string())?;
        }
        Ok(())
    }

    /// The job's identity: jobs with the same seed, number and model are the same job and play the same games; all others
    /// differ, so that no game of one counts as a repetition of another's.
    pub fn job(&self, kind: &str, number: u64, model: Option<BlobHash>) -> JobId {
        let start = |hash: BlobHash| {
            let mut first = [0; 8];
            first.copy_from_slice(&hash.0[..8]);
            u64::from_le_bytes(first)
        };
        let configuration = BlobHash::of(self.configuration.as_str().as_bytes());
        let seed = self
            .seed()
            .derive(kind, number)
            .derive("configuration", start(configuration))
            .derive("model", model.map_or(0, start));
        JobId(seed.0)
    }

    /// What the jobs play.
    pub fn configuration(&self) -> &ConfigurationName {
        &self.configuration
    }

    /// The run's seed.
    pub fn seed(&self) -> Seed {
        Seed(self.args.seed)
    }

    /// Whether the work was interrupted.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Does a job, with its files in `out`, and tells `bar` as its `number`th.
    ///
    /// # Errors
    /// What the job failed with.
    pub fn run(
        &self,
        job: JobId,
        payload: Payload,
        champion: Option<BlobHash>,
        out: &Path,
        say: &mut dyn run::JobListener,
    ) -> anyhow::Result<Made> {
        fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let assignment = Assignment {
            job,
            configuration: self.configuration.clone(),
            seed: payload.job_seed(job),
            payload,
            champion,
            inputs: self.inputs.clone(),
            manifests: self.manifests.clone(),
            resume: None,
            out: out.to_owned(),
            optimizers: out.join(OPTIMIZERS),
            device: self.args.device.to_string(),
            save_every: None,
        };
        let outcome = run::run(&assignment, say, &self.stop).map_err(|error| error.error)?;
        Ok(outcome.made)
    }

    /// Does several jobs of equal kind at once, one thread each, and shows them as one bar of `total` of `unit`.
    ///
    /// # Errors
    /// The first error of any of them.
    pub fn run_all(
        &self,
        unit: &str,
        total: u64,
        jobs: &[(JobId, Payload, PathBuf)],
        champion: Option<BlobHash>,
    ) -> anyhow::Result<Vec<Made>> {
        let bar = Bar::new(unit, total, jobs.len())?;
        let results: Vec<_> = std::thread::scope(|scope| {
            let start = |(number, (job, payload, out)): (usize, &(JobId, Payload, PathBuf))| {
                let (bar, payload, out) = (&bar, payload.clone(), out.clone());
                let job = *job;
                scope.spawn(move || {
                    let mut say = |advance: run::Advance| bar.advance(number, advance);
                    self.run(job, payload, champion, &out, &mut say)
                })
            };
            let handles: Vec<_> = jobs.iter().enumerate().map(start).collect();
            let join = |handle: std::thread::ScopedJoinHandle<'_, _>| {
                handle
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            handles.into_iter().map(join).collect()
        });
        bar.clear();
        results.into_iter().collect()
    }
}
