//! How strictly routes and leases are treated; the default of each is the right one.

/// Policies of the role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// What must be unchanged for a route to be deleted.
    pub compare: RouteCompare,
    /// Whether a route ends with the lease of its node.
    pub lease: LeaseRule,
}

/// What must be unchanged for a route to be deleted when its connection closes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteCompare {
    /// The whole route.
    #[default]
    Whole,
    /// The node; the rest is taken from the present route.
    NodeOnly,
    /// Nothing; whatever is there is deleted.
    Nothing,
}

/// Whether a route ends with the lease of its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeaseRule {
    /// It does: routes of dead nodes are swept.
    #[default]
    Enforced,
    /// It does not: nothing is swept.
    Ignored,
}
