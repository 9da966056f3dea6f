-- The face that an agent chose, and where a thread works.
ALTER TABLE agents ADD COLUMN emoji TEXT;
ALTER TABLE threads ADD COLUMN workspace TEXT;
