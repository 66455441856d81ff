//! A Windows of wine's on a display of its own, with a hand at it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    BUTTON_PRESS_EVENT, BUTTON_RELEASE_EVENT, ConnectionExt as _, ImageFormat, MOTION_NOTIFY_EVENT, Window,
};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;

use crate::xvfb::Xvfb;

/// The size of wine's desktop (scripts/wine-prefix), and of the display.
pub(crate) const SIZE: (u16, u16) = (1024, 768);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until something is there.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "no {what} in time");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The display and the Windows on it, both ended when dropped.
pub(crate) struct Desk {
    xvfb: Xvfb,
    prefix: PathBuf,
    x: RustConnection,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let prefix = PathBuf::from(variable("TANDEM_WINE_PREFIX"));
        let xvfb = Xvfb::start(&format!("{}x{}x24", SIZE.0, SIZE.1), &[]);
        let x = xvfb.connect();
        let desk = Self { xvfb, prefix, x };
        // Of an earlier test.
        fs::write(desk.log(), "").expect("the prefix is there: scripts/wine-prefix");
        desk
    }

    /// A program with wine's environment. What it prints goes to a file: a program that outlives a test, as some of wine's do,
    /// must not hold what the test prints on.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let log = File::options().append(true).create(true).open(self.log()).expect("the prefix is there");
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .env("WINEPREFIX", &self.prefix)
            .env("DISPLAY", &self.xvfb.name)
            .env("HOME", self.prefix.join("home"))
            .env("WINEDEBUG", "-all")
            .env("WINEDLLOVERRIDES", "mscoree=;mshtml=")
            // The language follows Windows' regional setting, which wine takes from here.
            .env("LC_ALL", "C.UTF-8");
        command
    }

    fn log(&self) -> PathBuf {
        self.prefix.join("log")
    }

    /// Runs a program with wine's environment to its end, but no longer than wine can take for anything.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Option<ExitStatus> {
        let mut command = self.command("timeout");
        command.args(["--kill-after=5", "60", program]).args(arguments).status().ok()
    }

    /// A program of Windows'.
    pub(crate) fn windows(&self, program: &str) -> Command {
        let mut command = self.command("wine");
        command.arg(program);
        command
    }

    /// The text on this Windows' clipboard, as soon as there is one.
    pub(crate) fn clipboard(&self) -> String {
        let mut command = self.windows(r"C:\clipboard.exe");
        let mut program = command.stdout(Stdio::piped()).spawn().expect("wine starts");
        until("text on the clipboard", || program.try_wait().expect("it is a child"));
        let mut text = String::new();
        program.stdout.take().expect("it is piped").read_to_string(&mut text).expect("text");
        text
    }

    /// A path of drive C as Linux has it.
    pub(crate) fn drive_c(&self, path: &str) -> PathBuf {
        self.prefix.join("drive_c").join(path)
    }

    /// Every file in the users' folders.
    pub(crate) fn files(&self) -> BTreeSet<PathBuf> {
        let mut files = BTreeSet::new();
        collect(&self.drive_c("users"), &mut files);
        files
    }

    /// The pixels of the whole display, B, G, R, unused.
    pub(crate) fn pixels(&self) -> Vec<u8> {
        let root = self.x.setup().roots[0].root;
        let image = self.x.get_image(ImageFormat::Z_PIXMAP, root, 0, 0, SIZE.0, SIZE.1, !0).expect("sent");
        image.reply().expect("an answer").data
    }

    /// The middle of all pixels of a colour (`0xRRGGBB`), if there are at least so many.
    pub(crate) fn middle_of(&self, colour: u32, at_least: usize) -> Option<(i32, i32)> {
        let [blue, green, red, _] = colour.to_le_bytes();
        let pixels = self.pixels();
        let alike = |pixel: &[u8; 4]| pixel[..3] == [blue, green, red];
        let places: Vec<usize> = pixels
            .as_chunks::<4>()
            .0
            .iter()
            .enumerate()
            .filter(|(_, pixel)| alike(pixel))
            .map(|(at, _)| at)
            .collect();
        let mean = |sum: usize| i32::try_from(sum / places.len()).expect("within a screen");
        let width = usize::from(SIZE.0);
        (places.len() >= at_least.max(1)).then(|| {
            (mean(places.iter().map(|at| at % width).sum()), mean(places.iter().map(|at| at / width).sum()))
        })
    }

    /// The middle of the window whose title contains this.
    pub(crate) fn window(&self, title: &str) -> Option<(i32, i32)> {
        let root = self.x.setup().roots[0].root;
        let id = self.find(root, title)?;
        let geometry = self.x.get_geometry(id).ok()?.reply().ok()?;
        let place = self.x.translate_coordinates(id, root, 0, 0).ok()?.reply().ok()?;
        Some((
            i32::from(place.dst_x) + i32::from(geometry.width) / 2,
            i32::from(place.dst_y) + i32::from(geometry.height) / 2,
        ))
    }

    fn find(&self, window: Window, title: &str) -> Option<Window> {
        let atom = |name: &str| Some(self.x.intern_atom(false, name.as_bytes()).ok()?.reply().ok()?.atom);
        let name = self.x.get_property(false, window, atom("_NET_WM_NAME")?, atom("UTF8_STRING")?, 0, 256);
        let name = name.ok()?.reply().ok().map(|reply| reply.value).unwrap_or_default();
        if String::from_utf8_lossy(&name).contains(title) {
            return Some(window);
        }
        let children = self.x.query_tree(window).ok()?.reply().ok()?.children;
        children.into_iter().find_map(|child| self.find(child, title))
    }

    /// Moves the person's own mouse.
    pub(crate) fn hover(&self, (x, y): (i32, i32)) {
        self.fake(MOTION_NOTIFY_EVENT, 0, (x as i16, y as i16));
    }

    /// Clicks with the person's own mouse.
    pub(crate) fn click(&self, place: (i32, i32)) {
        self.hover(place);
        self.fake(BUTTON_PRESS_EVENT, 1, (0, 0));
        self.fake(BUTTON_RELEASE_EVENT, 1, (0, 0));
    }

    fn fake(&self, kind: u8, detail: u8, (x, y): (i16, i16)) {
        let root = if kind == MOTION_NOTIFY_EVENT { self.x.setup().roots[0].root } else { x11rb::NONE };
        let sent = self.x.xtest_fake_input(kind, detail, x11rb::CURRENT_TIME, root, x, y, 0);
        sent.expect("sent").check().expect("done");
    }

    /// The processes of this Windows that run a program.
    pub(crate) fn processes(&self, program: &str) -> Vec<String> {
        let ours = |path: &Path| {
            let environment = fs::read(path.join("environ")).ok()?;
            let wanted = format!("WINEPREFIX={}", self.prefix.display());
            environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes()).then_some(())?;
            let line = fs::read(path.join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(program).then_some(line)
        };
        let entries = fs::read_dir("/proc").expect("Linux has it");
        entries.flatten().filter_map(|entry| ours(&entry.path())).collect()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // All programs of this Windows, and no other's.
        self.run("wineserver", &["--kill"]);
        self.run("wineserver", &["--wait"]);
        if std::thread::panicking() {
            eprintln!("what its programs printed:\n{}", fs::read_to_string(self.log()).unwrap_or_default());
        }
    }
}

fn collect(folder: &Path, files: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            collect(&path, files);
        }
        files.insert(path);
    }
}

/// A setting of `make windows`.
pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: these tests are run by `make windows`"))
}
