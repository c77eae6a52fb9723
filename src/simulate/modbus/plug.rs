//! Where a simulated line is to be had, and its plug: a TCP port, a pseudo-terminal under the name of a serial port, or a
//! serial port itself. What is pulled is gone as a real line is gone: nothing listens, the adapter's name has vanished.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use tokio::task::JoinSet;
use tokio_serial::{SerialPort, SerialPortBuilder, SerialPortBuilderExt, SerialStream};

use super::Line;

/// Where pseudo-terminals are.
const PTS_DIR: &str = "/dev/pts";

/// Opens a terminal without becoming its session, whose end would end this program (Linux, `asm-generic/fcntl.h`).
const O_NOCTTY: i32 = 0o400;

/// Where a line is to be served.
#[derive(Clone, Debug)]
pub enum LineAt {
    /// A TCP port of the loopback; 0 chooses one.
    Tcp(u16),
    /// A pseudo-terminal, to which a link of this name is made: for whoever opens that name as its serial port.
    Pty(PathBuf),
    /// This serial port: a second adapter on a real line, or an end of a pair that another program made.
    Port {
        /// Its device file.
        name: String,
        /// Its settings.
        port: SerialPortBuilder,
    },
}

impl fmt::Display for LineAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "port {port}"),
            Self::Pty(link) => write!(f, "`{}`", link.display()),
            Self::Port { name, .. } => write!(f, "`{name}`"),
        }
    }
}

/// A line that is plugged in; dropping it pulls the plug.
#[derive(Debug)]
pub struct Plugged {
    name: String,
    tasks: JoinSet<()>,
    /// The name made for it, and the terminal that it leads to.
    link: Option<(PathBuf, PathBuf)>,
}

impl fmt::Display for Plugged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Plugged {
    /// Pulls the plug; the port can be had again afterwards.
    pub async fn pull(mut self) {
        self.tasks.shutdown().await;
    }
}

impl Drop for Plugged {
    fn drop(&mut self) {
        let Some((link, device)) = &self.link else { return };
        // Another stand-in may have taken the name since; it is that one's now.
        if fs::read_link(link).is_ok_and(|to| to == *device)
            && let Err(error) = fs::remove_file(link)
        {
            tracing::warn!("`{}` is left behind: {error}", link.display());
        }
    }
}

impl Line {
    /// Plugs the line in.
    ///
    /// # Errors
    /// When the port or the name cannot be had.
    pub async fn plug(&self, at: &LineAt) -> io::Result<Plugged> {
        match at {
            LineAt::Tcp(port) => {
                let served = self.serve_tcp(*port).await?;
                Ok(Plugged { name: served.address.to_string(), tasks: served.tasks, link: None })
            }
            LineAt::Pty(link) => self.plug_pty(link),
            LineAt::Port { name, port } => {
                let port = port.clone().open_native_async().map_err(io::Error::from)?;
                Ok(Plugged { tasks: self.on(port, None, name.clone()), name: name.clone(), link: None })
            }
        }
    }

    fn plug_pty(&self, link: &Path) -> io::Result<Plugged> {
        free(link)?;
        let (far, near) = SerialStream::pair()?;
        let device = near.name().ok_or_else(|| io::Error::other("the pseudo-terminal has no name"))?;
        // The near end stays open here, or the far end would fail whenever nobody has it open; but without the lock that the
        // pair holds on it, which would keep everybody else out.
        let held = OpenOptions::new().read(true).custom_flags(O_NOCTTY).open(&device)?;
        drop(near);
        symlink(&device, link)?;
        let name = format!("{} ({device})", link.display());
        Ok(Plugged {
            tasks: self.on(far, Some(held), name.clone()),
            name,
            link: Some((link.to_owned(), device.into())),
        })
    }

    fn on(&self, port: SerialStream, held: Option<File>, name: String) -> JoinSet<()> {
        let line = self.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            if let Err(error) = line.serve_rtu(port).await {
                tracing::error!("the stand-in's port {name} failed: {error}");
            }
            drop(held);
        });
        tasks
    }
}

/// Whether a link to a pseudo-terminal may be made here: nothing is there, or one that an earlier stand-in left behind.
#[must_use]
pub fn is_free(link: &Path) -> bool {
    match fs::symlink_metadata(link) {
        Ok(found) => found.is_symlink() && fs::read_link(link).is_ok_and(|to| to.starts_with(PTS_DIR)),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn free(link: &Path) -> io::Result<()> {
    if !is_free(link) {
        let told = "it is there and was not made by a stand-in; is it a real port?";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, told));
    }
    match fs::remove_file(link) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_one_stand_in_leaves_the_name_that_another_has_taken() {
        let dir = tempfile::tempdir().unwrap();
        let at = LineAt::Pty(dir.path().join("riser"));
        let first = Line::new([]).plug(&at).await.unwrap();
        let second = Line::new([]).plug(&at).await.unwrap();
        drop(first);
        assert!(fs::symlink_metadata(dir.path().join("riser")).is_ok(), "the second is served under it");
        drop(second);
        assert!(fs::symlink_metadata(dir.path().join("riser")).is_err());
    }
}
