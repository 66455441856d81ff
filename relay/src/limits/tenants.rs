//! Tenants: how many sessions each has, and how much memory they hold, for screens, keys and what waits for slow clients.
//!
//! Whoever is over its share is *tight*: its sessions hold less for those who are behind, and nobody new is let in. The sum of all
//! is bounded in the same way. Nothing is refused to who is inside, so a tenant that is tight costs others nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// All tenants that have sessions.
#[derive(Debug)]
pub struct Tenants {
    by_name: Mutex<ByName>,
    whole: Arc<Share>,
    most_sessions: usize,
    most_bytes: usize,
}

#[derive(Debug, Default)]
struct ByName {
    all: HashMap<String, Weak<Tenant>>,
    /// How many there may be before those are looked for that have no sessions any more.
    sweep_at: usize,
}

/// Bytes that are held, and how many may be.
#[derive(Debug)]
struct Share {
    held: AtomicUsize,
    most: usize,
}

impl Share {
    fn is_used_up(&self) -> bool {
        self.held.load(Ordering::Relaxed) >= self.most
    }
}

/// One tenant.
#[derive(Debug)]
pub struct Tenant {
    name: String,
    sessions: AtomicUsize,
    most_sessions: usize,
    own: Share,
    whole: Arc<Share>,
}

/// What one session's part holds, counted as long as this lives.
#[derive(Debug)]
pub struct Account {
    tenant: Arc<Tenant>,
    counted: usize,
}

/// A session of a tenant, counted as long as this lives.
#[derive(Debug)]
pub struct Place(Arc<Tenant>);

impl Tenants {
    /// Nobody yet. So many sessions for each, so many bytes for all and for each.
    pub fn new(most_sessions: usize, bytes: usize, bytes_of_each: usize) -> Self {
        let whole = Arc::new(Share { held: AtomicUsize::new(0), most: bytes });
        Self { by_name: Mutex::default(), whole, most_sessions, most_bytes: bytes_of_each }
    }

    /// A tenant, known or new.
    pub fn get(&self, name: &str) -> Arc<Tenant> {
        let mut by_name = self.by_name.lock();
        if let Some(tenant) = by_name.all.get(name).and_then(Weak::upgrade) {
            return tenant;
        }
        if by_name.all.len() >= by_name.sweep_at {
            by_name.all.retain(|_, tenant| tenant.strong_count() > 0);
            by_name.sweep_at = (2 * by_name.all.len()).max(64);
        }
        let tenant = Arc::new(Tenant {
            name: name.to_owned(),
            sessions: AtomicUsize::new(0),
            most_sessions: self.most_sessions,
            own: Share { held: AtomicUsize::new(0), most: self.most_bytes },
            whole: self.whole.clone(),
        });
        by_name.all.insert(name.to_owned(), Arc::downgrade(&tenant));
        tenant
    }
}

impl Tenant {
    /// Without bounds: for a session by itself.
    pub fn unbounded() -> Arc<Self> {
        Tenants::new(usize::MAX, usize::MAX, usize::MAX).get("")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it, or all together, hold as much as they may.
    pub fn is_tight(&self) -> bool {
        self.own.is_used_up() || self.whole.is_used_up()
    }

    /// One session more. `None`: it has as many as it may; who comes back is let in all the same.
    pub fn open(self: &Arc<Self>, returns: bool) -> Option<Place> {
        let more = |sessions| (returns || sessions < self.most_sessions).then_some(sessions + 1);
        self.sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Place(self.clone()))
    }

    /// An account of bytes, at nothing.
    pub fn account(self: &Arc<Self>) -> Account {
        Account { tenant: self.clone(), counted: 0 }
    }
}

impl Account {
    /// So many bytes are held now.
    pub fn set(&mut self, bytes: usize) {
        for share in [&self.tenant.own, &self.tenant.whole] {
            share.held.fetch_add(bytes, Ordering::Relaxed);
            share.held.fetch_sub(self.counted, Ordering::Relaxed);
        }
        self.counted = bytes;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Place {
    /// Whose it is.
    pub fn tenant(&self) -> &Arc<Tenant> {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_tight_by_itself_and_with_all_others() {
        let tenants = Tenants::new(10, 100, 60);
        let [mut one, mut other, mut third] = ["a", "b", "c"].map(|name| tenants.get(name).account());
        one.set(60);
        assert!(tenants.get("a").is_tight() && !tenants.get("b").is_tight());
        other.set(30);
        third.set(20);
        assert!(tenants.get("b").is_tight(), "all together");
        one.set(10);
        assert!(["a", "b", "c"].iter().all(|name| !tenants.get(name).is_tight()));
        drop((one, other, third));
        assert_eq!(tenants.whole.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn sessions_are_counted_and_tenants_without_any_are_forgotten() {
        let tenants = Tenants::new(2, 100, 100);
        let open = |name: &str, returns| tenants.get(name).open(returns);
        let places = [open("a", false), open("a", false)];
        assert!(places.iter().all(Option::is_some) && open("a", false).is_none());
        assert!(open("a", true).is_some(), "who comes back was counted before");
        drop(places);
        assert!(open("a", false).is_some());
        for n in 0..100_000 {
            drop(open(&n.to_string(), false));
        }
        assert!(tenants.by_name.lock().all.len() <= 64);
    }
}
