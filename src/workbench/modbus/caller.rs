//! How simulated controllers reach the gateway: Modbus TCP connections that are opened when they are needed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_modbus::client::{Client, Context, tcp};
use tokio_modbus::prelude::SlaveContext;
use tokio_modbus::{Request, Response, Slave};

use super::super::Refused;

/// Longest wait for a connection or an answer, in milliseconds; a decision takes at most 500.
pub const REPLY_MS: u64 = 1_500;

/// A connection to the gateway, opened when it is needed. Several controllers may share one.
pub struct Caller {
    address: SocketAddr,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    context: Option<Context>,
    /// Which connection this is.
    number: u64,
}

impl Caller {
    /// To the gateway of this machine that listens at `address`.
    #[must_use]
    pub fn to(mut address: SocketAddr) -> Self {
        if address.ip().is_unspecified() {
            let is_four = address.is_ipv4();
            address.set_ip(if is_four { IpAddr::from(Ipv4Addr::LOCALHOST) } else { Ipv6Addr::LOCALHOST.into() });
        }
        Self { address, open: Mutex::default() }
    }

    /// The registers that are answered, none to a write, and the number of the connection.
    pub(super) async fn call(&self, unit: u8, request: Request<'static>) -> Result<(Vec<u16>, u64), Refused> {
        let mut open = self.open.lock().await;
        // It may have ended since it was used. A repeat is not judged again.
        let may_be_old = open.context.is_some();
        let mut asked = self.ask(&mut open, unit, request.clone()).await;
        if may_be_old && asked.is_err() {
            asked = self.ask(&mut open, unit, request).await;
        }
        let words = asked.map_err(|why| {
            let check = "does it run, and does `allow` of `[modbus_server]` admit this machine?";
            Refused(format!("the gateway at {} does not answer unit {unit}: {why}; {check}", self.address))
        })?;
        Ok((words, open.number))
    }

    async fn ask(&self, open: &mut Open, unit: u8, request: Request<'static>) -> Result<Vec<u16>, String> {
        let limit = Duration::from_millis(REPLY_MS);
        let late = |_| format!("nothing within {REPLY_MS} ms");
        // Put back when it has answered: after anything else, an answer could be that of an earlier request.
        let mut context = match open.context.take() {
            Some(context) => context,
            None => {
                let connected = timeout(limit, tcp::connect_slave(self.address, Slave(unit))).await;
                open.number += 1;
                connected.map_err(late)?.map_err(|error| error.to_string())?
            }
        };
        context.set_slave(Slave(unit));
        let answered = timeout(limit, context.call(request)).await.map_err(late)?.map_err(|error| error.to_string())?;
        open.context = Some(context);
        match answered {
            Ok(Response::ReadInputRegisters(words) | Response::ReadWriteMultipleRegisters(words)) => Ok(words),
            Ok(_) => Ok(Vec::new()),
            Err(exception) => Err(format!("exception {}, {exception}", u8::from(exception))),
        }
    }
}
