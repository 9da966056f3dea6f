//! Which pool and which worker a message goes to.

use agentbus_protocol::jsonrpc::Routing;
use serde_json::{Map, Value};

use super::{Core, Pool, Reach, WorkerId};
use crate::codes::Fault;
use crate::config::Balance;

/// A refusal and what else there is to say about it.
pub(super) type Refusal = (Fault, Map<String, Value>);

pub(super) fn bare(fault: Fault) -> Refusal {
    (fault, Map::new())
}

/// The rank of a worker than which none is better.
const FREE: (u8, usize) = (0, 0);

impl Core {
    /// Finds the pool that a message without a known session is for.
    pub(super) fn pool_for(&self, routing: &Routing<'_>) -> Result<usize, Refusal> {
        if let Some(name) = &routing.pool {
            let known = self.pools_by_name.get(name.as_ref()).copied();
            return known.ok_or_else(|| (Fault::PoolUnknown, self.pool_names()));
        }
        let agent = routing.agent_id.as_deref();
        let of_agent = agent.and_then(|agent| {
            let by_agent = self.pools_by_agent.get(agent);
            by_agent.or_else(|| self.pools_by_name.get(agent)).copied()
        });
        match (of_agent, self.pool_entries, agent) {
            (Some(pool), ..) => Ok(pool),
            // With one pool an agent id is for whatever stands behind the worker.
            (None, 1, _) => Ok(0),
            (None, _, None) => Err((Fault::PoolMissing, self.pool_names())),
            (None, _, Some(agent)) => {
                let mut data = self.pool_names();
                data.insert("agentId".into(), agent.into());
                Err((Fault::PoolMissing, data))
            }
        }
    }

    fn pool_names(&self) -> Map<String, Value> {
        let names: Vec<&str> = self.pools.iter().map(|pool| pool.name.as_str()).collect();
        Map::from_iter([("pools".to_owned(), names.into())])
    }

    /// Chooses a worker of a pool and moves the pool's cursor past it.
    pub(super) fn pick(&mut self, pool: usize) -> Result<WorkerId, Refusal> {
        let chosen = self.best(&self.pools[pool]);
        let Some(offset) = chosen else {
            return Err(self.nobody(pool));
        };
        let home = &mut self.pools[pool];
        let next = offset + 1;
        home.cursor = if next < home.workers.len() { next } else { 0 };
        let worker = home.workers[offset];
        if self.worker(worker).reach == Reach::Asleep {
            self.worker_mut(worker).reach = Reach::Starting;
            self.woken.push(worker);
        }
        Ok(worker)
    }

    /// Returns the best place in the pool: the first in turn among the equally good.
    fn best(&self, pool: &Pool) -> Option<usize> {
        let in_turn = (pool.cursor..pool.workers.len()).chain(0..pool.cursor);
        let mut best = None;
        for offset in in_turn {
            let Some(rank) = self.rank(pool.workers[offset], pool.balance) else {
                continue;
            };
            if rank == FREE {
                return Some(offset);
            }
            if best.is_none_or(|(least, _)| rank < least) {
                best = Some((rank, offset));
            }
        }
        best.map(|(_, offset)| offset)
    }

    /// Ranks a worker, the lowest first; `None` if it cannot be given anything.
    fn rank(&self, id: WorkerId, balance: Balance) -> Option<(u8, usize)> {
        let worker = self.worker(id);
        let class = match worker.reach {
            Reach::Up if worker.retiring => 1,
            Reach::Up if worker.congested => 4,
            Reach::Up => 0,
            Reach::Starting => 2,
            Reach::Asleep => 3,
            Reach::Down | Reach::GivenUp => return None,
        };
        let load = match balance {
            Balance::RoundRobin => 0,
            Balance::LeastLoaded => worker.desk.in_flight(),
        };
        Some((class, load))
    }

    fn nobody(&self, pool: usize) -> Refusal {
        let home = &self.pools[pool];
        let given_up = |id: &WorkerId| self.worker(*id).reach == Reach::GivenUp;
        let fault = match home.workers.iter().all(given_up) {
            true => Fault::PoolGivenUp,
            false => Fault::NoWorker,
        };
        let data = Map::from_iter([("pool".to_owned(), home.name.as_str().into())]);
        (fault, data)
    }
}
