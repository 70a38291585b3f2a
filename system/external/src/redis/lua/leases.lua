-- What the scripts of leases share. A node is `<epoch>/<name>`.
-- KEYS[1]: node -> end of its lease. KEYS[2]: node -> address and roles. KEYS[3]: name -> newest epoch. KEYS[4]: node -> end of the
-- newest sweeper's claim.
local nodes, about, epochs, claims = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
