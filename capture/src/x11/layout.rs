//! The displays of an X screen: RandR's monitors, or the whole screen where there are none.

use std::collections::HashMap;

use tandem_protocol::DisplayId;
use x11rb::protocol::randr::{self, ConnectionExt as _, MonitorInfo, NotifyMask};
use x11rb::protocol::xproto::{AtomEnum, ChangeWindowAttributesAux, ConnectionExt as _, EventMask};

use super::link::{Asked, Link, OrLost};
use crate::{CaptureError, Display, Rotation};

/// Reads the displays again and again, and numbers them.
#[derive(Debug)]
pub(super) struct Reader {
    /// Ids by name: a monitor that returns is the one that it was.
    ids: HashMap<String, DisplayId>,
    monitors: bool,
}

impl Reader {
    /// Finds out what the server can do and asks for word of changes.
    pub(super) fn new(link: &Link) -> Result<Self, CaptureError> {
        let mut monitors = false;
        if link.has(randr::X11_EXTENSION_NAME)? {
            let version =
                link.conn.randr_query_version(1, 5).or_lost()?.reply().asked("tell RandR's version")?;
            monitors = (version.major_version, version.minor_version) >= (1, 5);
            let changes = NotifyMask::SCREEN_CHANGE | NotifyMask::CRTC_CHANGE | NotifyMask::OUTPUT_CHANGE;
            link.conn.randr_select_input(link.root(), changes).or_lost()?;
        }
        if !monitors {
            tracing::info!("the X server has no RandR 1.5: all monitors are shown as one display");
        }
        let shape = ChangeWindowAttributesAux::new().event_mask(EventMask::STRUCTURE_NOTIFY);
        link.conn.change_window_attributes(link.root(), &shape).or_lost()?;
        Ok(Self { ids: HashMap::new(), monitors })
    }

    /// The displays now.
    pub(super) fn read(&mut self, link: &Link) -> Result<Vec<Display>, CaptureError> {
        let root = link.conn.get_geometry(link.root()).or_lost()?.reply().asked("tell the screen's size")?;
        let scale = scale(link)?;
        let monitors = if self.monitors {
            let monitors = link.conn.randr_get_monitors(link.root(), true).or_lost()?.reply();
            monitors.asked("list the monitors")?.monitors
        } else {
            Vec::new()
        };
        let mut displays = Vec::new();
        for monitor in monitors {
            let name = link.conn.get_atom_name(monitor.name).or_lost()?.reply().asked("name a monitor")?.name;
            let name = String::from_utf8_lossy(&name).into_owned();
            if name.starts_with("XWAYLAND") {
                return Err(CaptureError::Wayland);
            }
            // A monitor can reach beyond the screen while a change is under way; only what lies inside can be read.
            let (x, y) = (i32::from(monitor.x), i32::from(monitor.y));
            let inside = |start: i32, length: u16, limit: u16| {
                u16::try_from((i32::from(limit) - start).min(length.into()))
            };
            let (Ok(width @ 1..), Ok(height @ 1..)) =
                (inside(x, monitor.width, root.width), inside(y, monitor.height, root.height))
            else {
                continue;
            };
            if x < 0 || y < 0 {
                continue;
            }
            displays.push(Display {
                id: self.id(&name),
                name,
                origin: (x, y),
                size: (width, height),
                scale,
                rotation: rotation(link, &monitor)?,
                primary: monitor.primary,
            });
        }
        if displays.is_empty() {
            let (name, size) = ("screen".to_owned(), (root.width, root.height));
            let (id, rotation) = (self.id(&name), Rotation::None);
            displays.push(Display { id, name, origin: (0, 0), size, scale, rotation, primary: true });
        }
        displays.sort_by_key(|display| (!display.primary, display.origin, display.id));
        if let Some(first) = displays.first_mut() {
            first.primary = true;
        }
        Ok(displays)
    }

    fn id(&mut self, name: &str) -> DisplayId {
        let next = DisplayId(u16::try_from(self.ids.len()).unwrap_or(u16::MAX));
        *self.ids.entry(name.to_owned()).or_insert(next)
    }
}

/// How the first output of a monitor is turned.
fn rotation(link: &Link, monitor: &MonitorInfo) -> Result<Rotation, CaptureError> {
    let Some(output) = monitor.outputs.first() else { return Ok(Rotation::None) };
    let Ok(output) = link.conn.randr_get_output_info(*output, 0).or_lost()?.reply() else {
        return Ok(Rotation::None);
    };
    let Ok(crtc) = link.conn.randr_get_crtc_info(output.crtc, 0).or_lost()?.reply() else {
        return Ok(Rotation::None);
    };
    // RandR counts counter-clockwise.
    Ok(match crtc.rotation {
        rotation if rotation.contains(randr::Rotation::ROTATE90) => Rotation::ThreeQuarters,
        rotation if rotation.contains(randr::Rotation::ROTATE180) => Rotation::Half,
        rotation if rotation.contains(randr::Rotation::ROTATE270) => Rotation::Quarter,
        _ => Rotation::None,
    })
}

/// How large the desktop draws: its resources' dots an inch, which X11 knows only for all displays together.
fn scale(link: &Link) -> Result<f32, CaptureError> {
    let (root, property, kind) = (link.root(), AtomEnum::RESOURCE_MANAGER, AtomEnum::STRING);
    let reply = link.conn.get_property(false, root, property, kind, 0, 1 << 14).or_lost()?.reply();
    let resources = reply.asked("tell the desktop's resources")?.value;
    let dots = String::from_utf8_lossy(&resources).lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "Xft.dpi").then(|| value.trim().parse::<f32>().ok())?
    });
    Ok((dots.unwrap_or(96.0) / 96.0).clamp(0.5, 4.0))
}
