//! A network address translator and firewall between clients and a relay: forwards datagrams and TCP connections at one port
//! number, gives clients another port or address, or lets UDP or TCP no longer through, whenever a test wants it to.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

type Mappings = Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>>;

/// Ended with this.
pub struct Nat {
    pub address: SocketAddr,
    mappings: Mappings,
    /// How often a client was given a port.
    ports: watch::Receiver<u32>,
    udp: watch::Sender<bool>,
    tcp: watch::Sender<bool>,
    /// Where clients come from, as the relay sees it.
    outside: watch::Sender<IpAddr>,
    _tasks: JoinSet<()>,
}

impl Nat {
    /// Before the relay at this address.
    pub async fn start(relay: SocketAddr) -> Self {
        let (inside, listener) = sockets().await;
        let mappings = Mappings::default();
        let (give, ports) = watch::channel(0);
        let (udp, udp_open) = watch::channel(true);
        let (tcp, tcp_open) = watch::channel(true);
        let (outside, from) = watch::channel(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let mut tasks = JoinSet::new();
        let address = inside.local_addr().unwrap();
        tasks.spawn(forward(inside, relay, mappings.clone(), give, (udp_open, from.clone())));
        tasks.spawn(accept(listener, relay, (tcp_open, from)));
        Self { address, mappings, ports, udp, tcp, outside, _tasks: tasks }
    }

    /// Forgets everybody: who speaks next gets another port, and what comes for the old ones is lost.
    pub async fn forget(&self) {
        self.mappings.lock().await.clear();
    }

    /// Clients come from another address of this computer from now on: TCP connections of before end, datagrams go on from there.
    pub async fn come_from(&self, address: IpAddr) {
        self.outside.send_replace(address);
        self.forget().await;
    }

    /// Lets datagrams through, or loses them without a word.
    pub fn let_udp(&self, open: bool) {
        self.udp.send_replace(open);
    }

    /// Lets TCP through, or ends its connections and all that are tried.
    pub fn let_tcp(&self, open: bool) {
        self.tcp.send_replace(open);
    }

    /// Ports given so far.
    pub fn ports(&self) -> u32 {
        *self.ports.borrow()
    }

    /// Ends when so many ports have been given.
    pub async fn given(&self, ports: u32) {
        self.ports.clone().wait_for(|given| *given >= ports).await.unwrap();
    }
}

/// Both at one port number.
async fn sockets() -> (Arc<UdpSocket>, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        // Somebody else may have the TCP port of that number.
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (Arc::new(udp), tcp);
        }
    }
}

/// Whether a way is open, and from where it leads to the relay.
type Way = (watch::Receiver<bool>, watch::Receiver<IpAddr>);

async fn accept(listener: TcpListener, relay: SocketAddr, way: Way) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        connections.spawn(pipe(client, relay, way.clone()));
    }
}

async fn pipe(mut client: TcpStream, relay: SocketAddr, (mut open, mut from): Way) {
    if !*open.borrow() {
        return;
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(*from.borrow_and_update(), 0)).unwrap();
    let mut server = socket.connect(relay).await.unwrap();
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        _ = open.wait_for(|open| !open) => {}
        _ = from.changed() => {}
    }
}

async fn forward(
    inside: Arc<UdpSocket>,
    relay: SocketAddr,
    mappings: Mappings,
    ports: watch::Sender<u32>,
    (open, from): Way,
) {
    let mut backs = JoinSet::new();
    let mut datagram = vec![0; 65536];
    loop {
        // On Linux an unreachable peer shows up as an error here; the next datagram may be another one's.
        let Ok((len, client)) = inside.recv_from(&mut datagram).await else { continue };
        if !*open.borrow() {
            continue;
        }
        let mut known = mappings.lock().await;
        let outside = match known.get(&client).cloned() {
            Some(outside) => outside,
            None => {
                let from = SocketAddr::new(*from.borrow(), 0);
                let outside = Arc::new(UdpSocket::bind(from).await.unwrap());
                outside.connect(relay).await.unwrap();
                ports.send_modify(|ports| *ports += 1);
                known.insert(client, outside.clone());
                backs.spawn(back(outside.clone(), inside.clone(), client, mappings.clone(), open.clone()));
                outside
            }
        };
        drop(known);
        let _ = outside.send(&datagram[..len]).await;
    }
}

/// What comes from the relay goes to the client, as long as this is its port.
async fn back(
    outside: Arc<UdpSocket>,
    inside: Arc<UdpSocket>,
    client: SocketAddr,
    mappings: Mappings,
    open: watch::Receiver<bool>,
) {
    let mut datagram = vec![0; 65536];
    loop {
        let Ok(len) = outside.recv(&mut datagram).await else { return };
        if !*open.borrow() {
            continue;
        }
        let is_present =
            mappings.lock().await.get(&client).is_some_and(|present| Arc::ptr_eq(present, &outside));
        if !is_present {
            return;
        }
        let _ = inside.send_to(&datagram[..len], client).await;
    }
}
