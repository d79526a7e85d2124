//! The one address of a service that two racks serve in turn: connections go to whichever is named, and end when another
//! is. What a load balancer does that asks `/readyz`, as bytes and without a memory.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Outcome, tried};

/// A rack that does not take a connection for so long is not there.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// The address. It stays when it is dropped, and leads nowhere then.
#[derive(Debug)]
pub struct Front {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    to: Option<SocketAddr>,
    /// Both ends of every connection since it was set.
    open: Vec<TcpStream>,
}

impl Front {
    /// Listens there; leads nowhere at first.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn open(address: SocketAddr) -> Outcome<Self> {
        let listener = TcpListener::bind(address).map_err(tried("the front"))?;
        let state = Arc::<Mutex<State>>::default();
        let inner = Arc::clone(&state);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let state = Arc::clone(&inner);
                // One that leads nowhere ends at once, and its peer dials again.
                std::thread::spawn(move || drop(join(stream, &state)));
            }
        });
        Ok(Self { state })
    }

    /// Leads there from now on. Connections to anybody else end.
    pub fn lead_to(&self, address: Option<SocketAddr>) {
        let mut state = self.state.lock().expect("nothing panics while it is held");
        state.to = address;
        state.open.drain(..).for_each(|stream| hang_up(&stream));
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.lead_to(None);
    }
}

fn hang_up(stream: &TcpStream) {
    // It may have ended by itself.
    stream.shutdown(Shutdown::Both).unwrap_or_default();
}

fn join(near: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let lock = || state.lock().expect("nothing panics while it is held");
    let Some(to) = lock().to else { return Ok(()) };
    let far = TcpStream::connect_timeout(&to, CONNECT_MAX)?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    {
        let mut state = lock();
        if state.to != Some(to) {
            return Ok(());
        }
        state.open.extend([near.try_clone()?, far.try_clone()?]);
    }
    let back = (far.try_clone()?, near.try_clone()?);
    std::thread::spawn(move || pass_on(back.0, back.1));
    pass_on(near, far);
    Ok(())
}

/// Until either side ends, and then both do.
fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    drop(std::io::copy(&mut from, &mut to));
    hang_up(&from);
    hang_up(&to);
}
