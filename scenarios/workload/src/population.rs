//! Users, devices, communities, contacts and planned absences: tables computed once from a plan, the same everywhere.

use crate::draw::Key;
use crate::file::{PopulationSpec, SessionsSpec};
use crate::fixed::{FRACTION_BITS, exponential};
use crate::units::MILLION;

/// A device by its dense number: devices of one user are neighbours, users in order.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct DeviceIx(pub u32);

/// Draws for one sender before a device that is online is searched for.
const SENDER_DRAWS: u64 = 24;
/// First lane of sender draws; the lanes below belong to other properties of an intent.
const SENDER_LANE: u64 = 16;
/// Shortest planned absence.
const AWAY_NS_MIN: u64 = 100_000_000;
/// Planned absences of one device; a plan that wants more gets its first ones.
const ABSENCES_PER_DEVICE_MAX: usize = 10_000;

/// Everybody of a plan.
#[derive(Debug)]
pub struct Population {
    first_device: Vec<u32>,
    user_of: Vec<u32>,
    community_start: Vec<u32>,
    contact_start: Vec<u32>,
    contacts: Vec<u32>,
    planned_offline: Vec<bool>,
    online_users: Vec<u32>,
    absence_start: Vec<u32>,
    absences: Vec<(u64, u64)>,
    load_end_ns: u64,
}

impl Population {
    /// Computes the tables. `load_end_ns` is where the drain phase begins on the load clock.
    pub(crate) fn new(
        seed: u64,
        spec: &PopulationSpec,
        sessions: &SessionsSpec,
        load_end_ns: u64,
    ) -> Self {
        let users = spec.users;
        let by_rank = ranked(users, Key::new(seed, "population/devices"));
        let mut count_of = vec![1_u8; index(users)];
        let (mut share_sum, mut from) = (0_u64, 0_usize);
        for (count, share) in &spec.devices {
            share_sum += u64::from(share.0);
            let to = usize::try_from(share_sum * u64::from(users) / MILLION)
                .unwrap_or(usize::MAX)
                .min(index(users));
            for user in &by_rank[from..to] {
                count_of[index(*user)] = *count;
            }
            from = to;
        }
        let mut first_device = Vec::with_capacity(index(users) + 1);
        let mut user_of = Vec::new();
        for (user, count) in (0..users).zip(&count_of) {
            first_device.push(
                u32::try_from(user_of.len())
                    .expect("the number of devices is bounded by the file checks"),
            );
            user_of.extend(std::iter::repeat_n(user, usize::from(*count)));
        }
        first_device.push(
            u32::try_from(user_of.len())
                .expect("the number of devices is bounded by the file checks"),
        );

        let mut planned_offline = vec![false; index(users)];
        let offline =
            users - u32::try_from(spec.online.of(u64::from(users))).unwrap_or(users).min(users);
        for user in &ranked(users, Key::new(seed, "population/offline"))[..index(offline)] {
            planned_offline[index(*user)] = true;
        }
        let online_users = (0..users).filter(|u| !planned_offline[index(*u)]).collect();

        let communities = users.div_ceil(spec.community.max(2)).max(1);
        let community_start: Vec<u32> =
            (0..=communities).map(|c| part(users, c, communities)).collect();
        let (contact_start, contacts) = draw_contacts(seed, spec, &community_start);
        let mut population = Self {
            first_device,
            user_of,
            community_start,
            contact_start,
            contacts,
            planned_offline,
            online_users,
            absence_start: vec![0],
            absences: Vec::new(),
            load_end_ns,
        };
        population.draw_absences(seed, sessions);
        population
    }

    /// Number of users.
    pub fn users(&self) -> u32 {
        u32::try_from(self.planned_offline.len()).expect("users are counted in u32")
    }

    /// Number of devices.
    pub fn devices(&self) -> u32 {
        u32::try_from(self.user_of.len()).expect("devices are counted in u32")
    }

    /// Number of communities.
    pub fn communities(&self) -> u32 {
        u32::try_from(self.community_start.len() - 1).expect("communities are counted in u32")
    }

    /// The user of a device.
    #[inline]
    pub fn user_of(&self, device: DeviceIx) -> u32 {
        self.user_of[index(device.0)]
    }

    /// The user of a device and the device's place among the user's.
    pub fn split(&self, device: DeviceIx) -> (u32, u8) {
        let user = self.user_of(device);
        let place = device.0 - self.first_device[index(user)];
        (user, u8::try_from(place).expect("a user has at most 16 devices"))
    }

    /// The device at a place of a user, if there is one.
    pub fn device(&self, user: u32, place: u8) -> Option<DeviceIx> {
        let devices = self.devices_of(user);
        let ix = devices.start.checked_add(u32::from(place))?;
        devices.contains(&ix).then_some(DeviceIx(ix))
    }

    /// The dense numbers of a user's devices.
    #[inline]
    pub fn devices_of(&self, user: u32) -> std::ops::Range<u32> {
        self.first_device[index(user)]..self.first_device[index(user) + 1]
    }

    /// Whom a user writes to; never empty, never the user itself.
    #[inline]
    pub fn contacts_of(&self, user: u32) -> &[u32] {
        let at = index(user);
        &self.contacts[index(self.contact_start[at])..index(self.contact_start[at + 1])]
    }

    /// The community of a user.
    pub fn community_of(&self, user: u32) -> u32 {
        let after = self.community_start.partition_point(|start| *start <= user);
        u32::try_from(after)
            .expect("communities are counted in u32")
            .saturating_sub(1)
            .min(self.communities() - 1)
    }

    /// The users of a community.
    pub fn users_of(&self, community: u32) -> std::ops::Range<u32> {
        self.community_start[index(community)]..self.community_start[index(community) + 1]
    }

    /// Which of `shards` owns a user: whole communities, contiguous.
    pub fn shard_of(&self, user: u32, shards: u32) -> u32 {
        let share =
            u64::from(self.community_of(user)) * u64::from(shards) / u64::from(self.communities());
        u32::try_from(share).expect("a shard number is below the number of shards")
    }

    /// Whether the plan keeps a user away until the drain phase.
    pub fn planned_offline(&self, user: u32) -> bool {
        self.planned_offline[index(user)]
    }

    /// Users that take part in the load.
    pub fn online_users(&self) -> &[u32] {
        &self.online_users
    }

    /// Devices that the connect phase opens.
    pub fn online_devices(&self) -> u32 {
        self.online_users
            .iter()
            .map(|u| u32::try_from(self.devices_of(*u).len()).expect("a range of u32"))
            .sum()
    }

    /// Planned absences of a device on the load clock, in order, as (leave, return) in nanoseconds.
    #[inline]
    pub fn absences(&self, device: DeviceIx) -> &[(u64, u64)] {
        let at = index(device.0);
        &self.absences[index(self.absence_start[at])..index(self.absence_start[at + 1])]
    }

    /// Whether the plan has a device connected at a time of the load clock. From the drain phase on everybody is.
    #[inline]
    pub fn planned_online(&self, device: DeviceIx, at_ns: u64) -> bool {
        if at_ns >= self.load_end_ns {
            return true;
        }
        !self.planned_offline(self.user_of(device))
            && !self.absences(device).iter().any(|(leave, back)| (*leave..*back).contains(&at_ns))
    }

    /// Where the drain phase begins on the load clock.
    pub fn load_end_ns(&self) -> u64 {
        self.load_end_ns
    }

    /// The sender of draw `index_k`: a device that the plan has online at `at_ns`.
    #[inline]
    pub(crate) fn sender(&self, key: Key, index_k: u64, at_ns: u64) -> DeviceIx {
        let many = self.online_users.len() as u64;
        let mut last = 0;
        for draw in 0..SENDER_DRAWS {
            let bits = key.bits(index_k, SENDER_LANE + draw);
            // The halves of one draw pick the user and the device; both ranges are far below 2^32.
            last = ((bits >> 32) * many) >> 32;
            let devices = self.devices_of(
                self.online_users[usize::try_from(last).expect("below the number of users")],
            );
            let place = ((bits & 0xFFFF_FFFF) * u64::from(devices.end - devices.start)) >> 32;
            let device = DeviceIx(
                devices.start + u32::try_from(place).expect("below the user's number of devices"),
            );
            if self.absences(device).is_empty() || self.planned_online(device, at_ns) {
                return device;
            }
        }
        // Nearly everybody is away: the next user in line with a connected device sends.
        let start = usize::try_from(last).unwrap_or(0);
        let (head, tail) = self.online_users.split_at(start);
        tail.iter()
            .chain(head)
            .flat_map(|user| self.devices_of(*user).map(DeviceIx))
            .find(|device| self.planned_online(*device, at_ns))
            .unwrap_or(DeviceIx(self.first_device[index(self.online_users[start])]))
    }

    fn draw_absences(&mut self, seed: u64, sessions: &SessionsSpec) {
        let key = Key::new(seed, "population/churn");
        let away = sessions.away.sampler();
        let churn = u64::from(sessions.churn.0);
        for device in (0..self.devices()).map(DeviceIx) {
            if churn > 0 && !self.planned_offline(self.user_of(device)) {
                // Gaps are exponential with a mean of one minute over the share that leaves in a minute.
                let mean_ns = 60_000_000_000 * MILLION / churn;
                let (mut at, mut n) = (0_u64, 0_u64);
                for _ in 0..ABSENCES_PER_DEVICE_MAX {
                    let lane = u64::from(device.0) << 20 | n;
                    let gap = (u128::from(mean_ns) * u128::from(exponential(key.bits(lane, 0))))
                        >> FRACTION_BITS;
                    let leave = at.saturating_add(u64::try_from(gap).unwrap_or(u64::MAX));
                    if leave >= self.load_end_ns {
                        break;
                    }
                    let back = leave
                        .saturating_add(away.draw(key, lane, 1).max(AWAY_NS_MIN))
                        .min(self.load_end_ns);
                    self.absences.push((leave, back));
                    (at, n) = (back, n + 1);
                }
            }
            self.absence_start
                .push(u32::try_from(self.absences.len()).expect("absences are bounded a device"));
        }
    }
}

fn index(n: u32) -> usize {
    usize::try_from(n).expect("a usize has at least 32 bits")
}

/// Where part `i` of `n` equal parts of `whole` begins.
fn part(whole: u32, i: u32, n: u32) -> u32 {
    u32::try_from(u64::from(whole) * u64::from(i) / u64::from(n))
        .expect("a part is not larger than the whole")
}

/// All users in a seeded order.
fn ranked(users: u32, key: Key) -> Vec<u32> {
    let mut ranked: Vec<u32> = (0..users).collect();
    ranked.sort_by_cached_key(|user| key.bits(u64::from(*user), 0));
    ranked
}

/// Distinct contacts of every user inside the community.
fn draw_contacts(
    seed: u64,
    spec: &PopulationSpec,
    community_start: &[u32],
) -> (Vec<u32>, Vec<u32>) {
    let key = Key::new(seed, "population/contacts");
    let sampler = spec.contacts.sampler();
    let (mut starts, mut contacts) = (vec![0_u32], Vec::new());
    for bounds in community_start.windows(2) {
        let (first, end) = (bounds[0], bounds[1]);
        let others = u64::from(end - first).saturating_sub(1);
        for user in first..end {
            let wanted = sampler.draw(key, u64::from(user), 0).clamp(1, others.max(1)).min(others);
            let from = contacts.len();
            let mut lane = 8;
            while ((contacts.len() - from) as u64) < wanted {
                let drawn = first
                    + u32::try_from(key.below(u64::from(user), lane, others))
                        .expect("inside a community");
                let other = if drawn >= user { drawn + 1 } else { drawn };
                lane += 1;
                if lane > 8 + 4 * wanted {
                    // Dense circles: what is left is taken in order.
                    let missing =
                        usize::try_from(wanted).unwrap_or(usize::MAX) - (contacts.len() - from);
                    let rest: Vec<u32> = (first..end)
                        .filter(|u| *u != user && !contacts[from..].contains(u))
                        .take(missing)
                        .collect();
                    contacts.extend(rest);
                    break;
                }
                if !contacts[from..].contains(&other) {
                    contacts.push(other);
                }
            }
            starts.push(
                u32::try_from(contacts.len())
                    .expect("contacts are bounded by users times community"),
            );
        }
    }
    (starts, contacts)
}
