//! Which relay has our session: the one that we were given, or one that it named when it left service.

use crate::target::Target;

/// Relays that one may name.
const ALTERNATIVES_MAX: usize = 16;

/// Where to dial.
#[derive(Debug)]
pub(crate) struct Route {
    /// In the order in which they are tried. Never empty.
    places: Vec<Target>,
    at: usize,
}

impl Route {
    pub(crate) fn new(home: Target) -> Self {
        Self { places: vec![home], at: 0 }
    }

    /// The relay to dial now.
    pub(crate) fn target(&self) -> &Target {
        &self.places[self.at]
    }

    /// The relay that we are at leaves service and names others, best first. Whether any of them is a relay's address; then the
    /// first is dialled next, and the one that leaves comes last.
    pub(crate) fn leave(&mut self, alternatives: &[String]) -> bool {
        let here = self.target().clone();
        let others = alternatives.iter().take(ALTERNATIVES_MAX).filter_map(|url| {
            here.sibling(url).inspect_err(|error| tracing::warn!(%error, "an alternative is not used")).ok()
        });
        let places: Vec<Target> = others.chain([here.clone()]).collect();
        let any = places.len() > 1;
        if any {
            (self.places, self.at) = (places, 0);
        }
        any
    }

    /// This relay did not take us: another one may.
    pub(crate) fn failed(&mut self) {
        self.at = (self.at + 1) % self.places.len();
    }

    /// This relay does not know our ticket: it is none of those that may have the session. Whether others are left.
    pub(crate) fn rule_out(&mut self) -> bool {
        if self.places.len() == 1 {
            return false;
        }
        self.places.remove(self.at);
        self.at %= self.places.len();
        true
    }

    /// This relay has taken us. The others in the session were told the same places in the same order: who lost the connection
    /// now and tried another relay than they did would never meet them again.
    pub(crate) fn arrived(&mut self) {
        let here = self.places.swap_remove(self.at);
        (self.places, self.at) = (vec![here], 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> Route {
        Route::new(Target::new("https://a.example", Vec::new()).expect("an address"))
    }

    fn here(route: &Route) -> String {
        route.target().to_string()
    }

    #[test]
    fn others_are_tried_in_their_order_and_the_one_that_leaves_last() {
        let mut route = route();
        let named =
            ["https://b.example".to_owned(), "nonsense".to_owned(), "https://c.example:4433".to_owned()];
        assert!(route.leave(&named));
        let mut tried = Vec::new();
        for _ in 0..4 {
            tried.push(here(&route));
            route.failed();
        }
        assert_eq!(
            tried,
            [
                "https://b.example:443",
                "https://c.example:4433",
                "https://a.example:443",
                "https://b.example:443"
            ]
        );
        route.arrived();
        route.failed();
        assert_eq!(here(&route), "https://c.example:4433", "where the others are");
    }

    #[test]
    fn one_that_cannot_read_our_ticket_is_left_out_but_never_the_last() {
        let mut route = route();
        assert!(
            !route.leave(&["http://b.example".to_owned()]),
            "without TLS only this computer may be addressed"
        );
        assert!(!route.rule_out());
        assert!(route.leave(&["https://b.example".to_owned()]));
        assert!(route.rule_out());
        assert_eq!(here(&route), "https://a.example:443");
        assert!(!route.rule_out());
    }
}
