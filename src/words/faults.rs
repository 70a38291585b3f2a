//! The faults an experiment file can use, in words. The names are those of the file format.

/// One fault.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct FaultWord {
    /// Its key in a method step.
    pub name: &'static str,
    /// What it does.
    pub does: &'static str,
    /// What must be seen before it counts as injected.
    pub witness: &'static str,
    /// How it is taken away.
    pub undo: &'static str,
}

/// All faults, by name.
pub const FAULTS: &[FaultWord] = &[
    FaultWord {
        name: "black-hole",
        does: "open links of some devices go silent in one or both directions; no side is told, or with `told: device` the device alone; links made later are sound",
        witness: "links stalled with bytes held in the proxy; with `told: device` the devices' ends reset as well",
        undo: "the links carry bytes again and what was held arrives; where the device was told, the node's end is reset",
    },
    FaultWord {
        name: "broker-kill",
        does: "log brokers stop, one by one if there are several; their partitions elect other leaders or none",
        witness: "the leader epoch of a partition rose, or a partition has no leader",
        undo: "the brokers start, truncate to their leaders and catch up",
    },
    FaultWord {
        name: "broker-slow",
        does: "a log broker takes longer for everything it does",
        witness: "append time at least the injected delay",
        undo: "the delay is taken away",
    },
    FaultWord {
        name: "consumer-pause",
        does: "a consumer group of the log reads nothing, wherever its members are",
        witness: "the group's lag grows",
        undo: "the group reads on",
    },
    FaultWord {
        name: "cut-all",
        does: "the links of some or all devices are reset in one instant",
        witness: "links cut within 50 ms",
        undo: "nothing is left to undo; the links accept again",
    },
    FaultWord {
        name: "drain",
        does: "a node is asked to end gracefully; it sends its devices away first",
        witness: "the node drains and ends",
        undo: "the node starts again, empty",
    },
    FaultWord {
        name: "history-down",
        does: "the store behind history and tables ends at once; it keeps what it has written",
        witness: "calls of history and tables are made and none is answered",
        undo: "the store starts again with what it had",
    },
    FaultWord {
        name: "kill",
        does: "a node ends at once; `process` closes its sockets, `silent` leaves them open without a word",
        witness: "the unit is gone and connections are cut",
        undo: "the node starts again, empty, under its name and address",
    },
    FaultWord {
        name: "partition",
        does: "one node's calls to the registry, or to history and tables, are lost before they arrive",
        witness: "the node goes on calling and no call is answered; of the registry: a renewal of its lease failed",
        undo: "the node's calls arrive again",
    },
    FaultWord {
        name: "pause",
        does: "a node executes nothing; its sockets stay open; healing lets it go on where it stopped",
        witness: "sockets open and no byte for two seconds",
        undo: "the node goes on where it stopped",
    },
    FaultWord {
        name: "port-reset",
        does: "every call of a port ends in a reset connection; what it did before that, its caller is not told",
        witness: "calls fail at once, and none is answered",
        undo: "connections stay open again",
    },
    FaultWord {
        name: "port-slow",
        does: "every call of a port takes longer",
        witness: "calls take at least 80 % of the delay longer than before, in the mean, as the nodes measure them",
        undo: "the delay is taken away",
    },
    FaultWord {
        name: "port-stall",
        does: "every call of a port is held; one whose own time limit ends before the heal is lost",
        witness: "calls are made and none is answered",
        undo: "the calls that still wait go on",
    },
    FaultWord {
        name: "registry-wipe",
        does: "the store of registry and relay queues loses every key in one instant and goes on, empty",
        witness: "no route and no relay queue is what it was before",
        undo: "nothing is left to undo; nodes take their leases and devices their routes again",
    },
    FaultWord {
        name: "reset",
        does: "links of some devices are reset",
        witness: "as many resets as links picked",
        undo: "nothing is left to undo; the links accept again",
    },
    FaultWord {
        name: "rolling",
        does: "the nodes of a role are drained and started again one by one",
        witness: "the node epoch of each rose",
        undo: "every node of the role runs again",
    },
    FaultWord {
        name: "slow-link",
        does: "bytes between some devices and their gateways arrive later",
        witness: "the delay found is within a fifth of the delay asked",
        undo: "the delay is taken away; what was delayed arrives in order",
    },
];
