//! Where networks run, chosen at run time and never changed silently.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// What the user asked for: `cpu`, `cuda`, `cuda:1` or `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DeviceChoice {
    /// The first CUDA device if this build and machine have one, else the CPU. What it became is shown.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device by number; an error if it is not there.
    Cuda(u16),
}

/// A text that names no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a device: expected auto, cpu, cuda or cuda:<number>")]
pub struct UnknownDevice(pub String);

impl FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        let unknown = || UnknownDevice(text.to_owned());
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let number = text.strip_prefix("cuda:").ok_or_else(unknown)?;
                number.parse().map(Self::Cuda).map_err(|_| unknown())
            }
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Cpu => f.pad("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = UnknownDevice;

    fn try_from(text: String) -> Result<Self, UnknownDevice> {
        text.parse()
    }
}

impl Serialize for DeviceChoice {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceChoice {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Why a device cannot be had. The user or the machine is at fault; nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The program was built for the CPU only.
    #[error("{0} was asked for, but this program was built without the `cuda` feature")]
    NotBuilt(DeviceChoice),
    /// The machine has fewer devices, or no driver.
    #[error("{wanted} was asked for, but this machine shows {found} CUDA devices")]
    Missing {
        /// What was asked for.
        wanted: DeviceChoice,
        /// Devices found.
        found: usize,
    },
}

/// A device that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// Our own code for evaluation and training; burn's Flex backend where something is compared with burn.
    Cpu,
    /// A CUDA device.
    Cuda(u16),
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.pad("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl Backend {
    /// Resolves what the user asked for.
    ///
    /// # Errors
    /// [`DeviceError`] when a CUDA device was asked for by name and cannot be had.
    pub fn resolve(choice: DeviceChoice) -> Result<Self, DeviceError> {
        match choice {
            DeviceChoice::Cpu => Ok(Self::Cpu),
            DeviceChoice::Auto if cuda_devices() == Some(0) || cuda_devices().is_none() => {
                Ok(Self::Cpu)
            }
            DeviceChoice::Auto => Ok(Self::Cuda(0)),
            DeviceChoice::Cuda(number) => match cuda_devices() {
                None => Err(DeviceError::NotBuilt(choice)),
                Some(found) if usize::from(number) >= found => Err(DeviceError::Missing {
                    wanted: choice,
                    found,
                }),
                Some(_) => Ok(Self::Cuda(number)),
            },
        }
    }

    /// The burn device.
    pub fn device(self) -> Device {
        match self {
            Self::Cpu => Device::flex(),
            Self::Cuda(number) => cuda(number),
        }
    }
}

/// CUDA devices of this machine, none if the build cannot use them.
#[cfg(feature = "cuda")]
pub fn cuda_devices() -> Option<usize> {
    Some(
        Device::enumerate(burn::tensor::DeviceType::Cuda)
            .into_vec()
            .len(),
    )
}

/// CUDA devices of this machine, none if the build cannot use them.
#[cfg(not(feature = "cuda"))]
pub fn cuda_devices() -> Option<usize> {
    None
}

#[cfg(feature = "cuda")]
fn cuda(number: u16) -> Device {
    Device::cuda(usize::from(number))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_number: u16) -> Device {
    unreachable!("`resolve` gives no CUDA device in a build without the `cuda` feature")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_parse_back() {
        for choice in [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Cuda(3)] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        assert!("cuda:x".parse::<DeviceChoice>().is_err());
        assert!("gpu".parse::<DeviceChoice>().is_err());
    }

    /// A device asked for by name is given or refused, never replaced.
    #[cfg(not(feature = "cuda"))]
    #[test]
    fn no_silent_fallback() {
        let choice = DeviceChoice::Cuda(0);
        assert_eq!(Backend::resolve(choice), Err(DeviceError::NotBuilt(choice)));
        assert_eq!(Backend::resolve(DeviceChoice::Auto), Ok(Backend::Cpu));
    }
}
