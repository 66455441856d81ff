//! Bytes that are forwarded from one TCP connection to another, over loopback.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, pipe, splice};

use super::timed;

/// Bytes that are read or spliced at once.
const BLOCK: usize = 64 << 10;
const PIPE: usize = 1 << 20;

/// How.
#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    /// Read and written.
    Copy,
    /// Moved within the kernel.
    Splice,
}

/// Forwards so many bytes; answers with the time of the thread that forwards.
pub(super) fn run(how: How, bytes: u64) -> io::Result<(u64, Duration)> {
    let (mut source, input) = connected()?;
    let (output, mut sink) = connected()?;
    thread::scope(|scope| {
        let sending = scope.spawn(move || -> io::Result<()> {
            let block = vec![1; BLOCK];
            let mut left = bytes;
            while left > 0 {
                let now = left.min(BLOCK as u64);
                source.write_all(&block[..now as usize])?;
                left -= now;
            }
            Ok(())
        });
        let receiving = scope.spawn(move || -> io::Result<u64> {
            let mut block = vec![0; BLOCK];
            let mut received = 0;
            loop {
                match sink.read(&mut block)? {
                    0 => return Ok(received),
                    read => received += read as u64,
                }
            }
        });
        let mut spent = Duration::ZERO;
        let forwarded = timed(&mut spent, || match how {
            How::Copy => copy(input, output),
            How::Splice => move_on(input, output),
        });
        forwarded?;
        let panicked = |_| io::Error::other("a thread panicked");
        sending.join().map_err(panicked)??;
        Ok((receiving.join().map_err(panicked)??, spent))
    })
}

/// Both ends of a connection.
fn connected() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    let (other, _) = listener.accept()?;
    one.set_nodelay(true)?;
    other.set_nodelay(true)?;
    Ok((one, other))
}

fn copy(mut input: TcpStream, mut output: TcpStream) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    loop {
        match input.read(&mut block)? {
            0 => return Ok(()),
            read => output.write_all(&block[..read])?,
        }
    }
}

fn move_on(input: TcpStream, output: TcpStream) -> io::Result<()> {
    let (from, to) = pipe()?;
    // A smaller one works as well, only slower.
    let _ = fcntl_setpipe_size(&to, PIPE);
    let (input, output) = (File::from(OwnedFd::from(input)), File::from(OwnedFd::from(output)));
    loop {
        let mut left = splice(&input, None, &to, None, PIPE, SpliceFlags::MOVE)?;
        if left == 0 {
            return Ok(());
        }
        while left > 0 {
            left -= splice(&from, None, &output, None, left, SpliceFlags::MOVE)?;
        }
    }
}
