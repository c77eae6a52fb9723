//! Where a line is, and what is peculiar to it.

use crate::config::SerialConfig;

/// One line of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusSpec {
    /// Its id.
    pub id: String,
    /// Where it is.
    pub line: LineSpec,
    /// How long a reply may take, in milliseconds. A profile whose device is slower extends it for that device.
    pub timeout_ms: u32,
    /// Whether the serial adapter returns what is sent; `None`: it is found out.
    pub echo: Option<bool>,
    /// Over TCP, the answer to the one request under way counts whatever its transaction number.
    pub any_transaction: bool,
}

impl BusSpec {
    /// A line without peculiarities.
    #[must_use]
    pub fn new(id: &str, line: LineSpec, timeout_ms: u32) -> Self {
        Self { id: id.to_owned(), line, timeout_ms, echo: None, any_transaction: false }
    }
}

/// Where a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineSpec {
    /// `host:port`.
    Tcp(String),
    /// A serial port.
    Serial(SerialConfig),
    /// A line in memory, for tests with paused time.
    #[cfg(test)]
    Memory(super::tests::cable::Cable),
}

impl LineSpec {
    /// For logs.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Tcp(address) => address,
            Self::Serial(serial) => &serial.port,
            #[cfg(test)]
            Self::Memory(_) => "memory",
        }
    }

    /// The speed of a serial line.
    #[must_use]
    pub fn baud(&self) -> Option<u32> {
        match self {
            Self::Serial(serial) => Some(serial.baud),
            Self::Tcp(_) => None,
            #[cfg(test)]
            Self::Memory(cable) => cable.baud(),
        }
    }
}

/// What is peculiar to the devices or the adapter of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineOptions {
    /// Whether the serial adapter returns what is sent; `None`: it is found out.
    pub echo: Option<bool>,
    /// The device answers with any transaction number.
    pub any_transaction: bool,
    /// The number of the first request over TCP.
    pub transaction: u16,
}
