//! Where a simulated line is plugged in: a TCP port, a pseudo-terminal under the name of a serial port, or a serial port itself. When
//! it is unplugged, it is gone like a real line: nothing listens, and the name of the adapter does not exist.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use tokio::task::JoinSet;
use tokio_serial::{SerialPort, SerialPortBuilder, SerialPortBuilderExt, SerialStream};

use super::Line;

/// Where pseudo-terminals are.
const PTS_DIR: &str = "/dev/pts/";
/// The same directory, spelled as only the links of a simulator spell it, which shows who made a link.
const PTS_DIR_OURS: &str = "/dev/pts/./";

/// Opens a terminal without becoming its session, whose end would end this program (Linux, `asm-generic/fcntl.h`).
const O_NOCTTY: i32 = 0o400;

/// Where a line is to be served.
#[derive(Clone, Debug)]
pub enum LineAt {
    /// A TCP port of the loopback; 0 chooses one.
    Tcp(u16),
    /// A pseudo-terminal, with a link of this name to it, which the gateway opens as its serial port.
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

/// A line that is plugged in; dropping it unplugs the line.
#[derive(Debug)]
pub struct Plugged {
    name: String,
    tasks: JoinSet<()>,
    /// The name made for it, and the terminal that it leads to.
    link: Option<Link>,
}

/// A link that was made to a pseudo-terminal.
#[derive(Debug)]
struct Link {
    name: PathBuf,
    /// The target as the link spells it. Not a path, because paths are equal in several spellings.
    device: OsString,
    /// Keeps other simulators from using the name.
    _claim: UnixListener,
}

impl fmt::Display for Plugged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Plugged {
    /// Unplugs the line; its port can be used again afterwards.
    pub async fn pull(mut self) {
        self.tasks.shutdown().await;
    }
}

impl Drop for Plugged {
    fn drop(&mut self) {
        let Some(Link { name, device, .. }) = &self.link else { return };
        // The link may have been removed meanwhile, and another program may have made one of this name.
        if fs::read_link(name).is_ok_and(|to| to.as_os_str() == device)
            && let Err(error) = fs::remove_file(name)
        {
            tracing::warn!("`{}` is left behind: {error}", name.display());
        }
    }
}

impl Line {
    /// Plugs the line in. Fails when the port is taken or the name cannot be made.
    pub async fn plug(&self, at: &LineAt) -> io::Result<Plugged> {
        let taken = |error: io::Error| {
            io::Error::new(error.kind(), format!("{error}; is it used by another simulator or a device?"))
        };
        match at {
            LineAt::Tcp(port) => {
                let served = self.serve_tcp(*port).await.map_err(taken)?;
                Ok(Plugged { name: served.address.to_string(), tasks: served.tasks, link: None })
            }
            LineAt::Pty(link) => self.plug_pty(link),
            LineAt::Port { name, port } => {
                let port = port.clone().open_native_async().map_err(|error| taken(error.into()))?;
                Ok(Plugged { tasks: self.on(port, None, name.clone()), name: name.clone(), link: None })
            }
        }
    }

    fn plug_pty(&self, link: &Path) -> io::Result<Plugged> {
        let claim = claim(link)?;
        is_free(link).map_err(|why| io::Error::new(io::ErrorKind::AlreadyExists, why))?;
        match fs::remove_file(link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let (far, near) = SerialStream::pair()?;
        let device = near.name().ok_or_else(|| io::Error::other("the pseudo-terminal has no name"))?;
        // The near end stays open here, because the far end fails while no program has it open. It is opened again, because the pair
        // holds an exclusive lock on it, with which no other program could open it.
        let held = OpenOptions::new().read(true).custom_flags(O_NOCTTY).open(&device)?;
        drop(near);
        let ours = OsString::from(device.replacen(PTS_DIR, PTS_DIR_OURS, 1));
        symlink(&ours, link)?;
        let name = format!("{} ({device})", link.display());
        Ok(Plugged {
            tasks: self.on(far, Some(held), name.clone()),
            name,
            link: Some(Link { name: link.to_owned(), device: ours, _claim: claim }),
        })
    }

    fn on(&self, port: SerialStream, held: Option<File>, name: String) -> JoinSet<()> {
        let line = self.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            if let Err(error) = line.serve_rtu(port).await {
                tracing::error!("the simulator's port {name} failed: {error}");
            }
            drop(held);
        });
        tasks
    }
}

/// Whether a link to a pseudo-terminal may be made here: the name is free, or is a link of an earlier simulator, or a link to a
/// terminal that no longer exists. Whether the earlier simulator still runs is checked by the claim on the name. The error names what
/// uses it.
pub fn is_free(link: &Path) -> Result<(), String> {
    let to = match fs::read_link(link) {
        Ok(to) => to,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(_) => return Err("it exists and was not made by a simulator; is it a real port?".to_owned()),
    };
    let spelt = to.as_os_str().as_encoded_bytes();
    let gone = || matches!(fs::symlink_metadata(&to), Err(error) if error.kind() == io::ErrorKind::NotFound);
    if spelt.starts_with(PTS_DIR_OURS.as_bytes()) || spelt.starts_with(PTS_DIR.as_bytes()) && gone() {
        return Ok(());
    }
    let to = to.display();
    Err(format!(
        "it leads to `{to}`, which exists and was not made by a simulator; is it an end of a pair that socat made?"
    ))
}

/// Claims the name among the simulators of this machine by a socket. The claim ends when the socket is dropped or the process dies. Fails
/// when another simulator has it.
fn claim(link: &Path) -> io::Result<UnixListener> {
    let folder = link.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = fs::metadata(folder)?;
    // A folder may have several paths, and the name of a socket is limited in length.
    let mut name = format!("dormgate simulate {}:{} ", folder.dev(), folder.ino()).into_bytes();
    name.extend(link.file_name().unwrap_or_default().as_encoded_bytes());
    let address = SocketAddr::from_abstract_name(name)?;
    UnixListener::bind_addr(&address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            let process =
                owner(&address).map_or("another simulator".to_owned(), |pid| format!("the simulator of process {pid}"));
            let message = format!("{process} serves it: stop that one, or name another port in the configuration");
            io::Error::new(io::ErrorKind::AddrInUse, message)
        }
        _ => error,
    })
}

/// The id of the process that has claimed an address.
fn owner(address: &SocketAddr) -> Option<i32> {
    let asked = UnixStream::connect_addr(address).ok()?;
    asked.set_nonblocking(true).ok()?;
    tokio::net::UnixStream::from_std(asked).ok()?.peer_cred().ok()?.pid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_name_of_a_simulator_that_runs_is_not_taken_by_another() {
        let dir = tempfile::tempdir().unwrap();
        let riser = dir.path().join("riser");
        let at = LineAt::Pty(riser.clone());
        let first = Line::new([]).plug(&at).await.unwrap();
        let led_to = fs::read_link(&riser).unwrap();
        symlink(dir.path(), dir.path().join("other")).unwrap();
        for same in [at.clone(), LineAt::Pty(dir.path().join("other/riser"))] {
            let refused = Line::new([]).plug(&same).await.unwrap_err().to_string();
            let wanted = format!("the simulator of process {} serves it: stop that one, or name", std::process::id());
            assert!(refused.starts_with(&wanted), "{refused}");
            assert_eq!(fs::read_link(&riser).unwrap(), led_to);
        }
        Line::new([]).plug(&LineAt::Pty(dir.path().join("riser-2"))).await.unwrap();
        first.pull().await;
        Line::new([]).plug(&at).await.unwrap();
        assert!(fs::symlink_metadata(&riser).is_err(), "the name goes with the line");
    }

    #[tokio::test]
    async fn the_link_of_a_dead_simulator_is_replaced_although_its_terminal_is_in_use_again() {
        let dir = tempfile::tempdir().unwrap();
        let riser = dir.path().join("riser");
        let at = LineAt::Pty(riser.clone());
        let first = Line::new([]).plug(&at).await.unwrap();
        let left = fs::read_link(&riser).unwrap();
        fs::remove_file(&riser).unwrap();
        first.pull().await;
        symlink(&left, &riser).unwrap();
        // The kernel gives the lowest free number, often the same one.
        let _others = SerialStream::pair().unwrap();
        let line = Line::new([]).plug(&at).await.unwrap();
        assert!(File::open(&riser).is_ok());
        drop(line);
        assert!(fs::symlink_metadata(&riser).is_err(), "the name goes with the line");
    }

    #[tokio::test]
    async fn an_end_of_another_programs_pair_is_neither_replaced_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let riser = dir.path().join("riser");
        let (_master, terminal) = SerialStream::pair().unwrap();
        let name = PathBuf::from(terminal.name().unwrap());
        symlink(&name, &riser).unwrap();
        let at = LineAt::Pty(riser.clone());
        let refused = Line::new([]).plug(&at).await.unwrap_err().to_string();
        assert!(refused.starts_with(&format!("it leads to `{}`, which exists", name.display())), "{refused}");
        assert_eq!(fs::read_link(&riser).unwrap(), name);

        // It replaces the link of a simulator while that runs.
        fs::remove_file(&riser).unwrap();
        let line = Line::new([]).plug(&at).await.unwrap();
        fs::remove_file(&riser).unwrap();
        symlink(&name, &riser).unwrap();
        drop(line);
        assert_eq!(fs::read_link(&riser).unwrap(), name);
    }
}
