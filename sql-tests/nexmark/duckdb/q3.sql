-- Local item suggestion. Who is selling in Oregon, Idaho or California in category 10? A row for each such auction:
-- the seller's name, city and state, and the auction's id. No time bounds it.
WITH local AS (FROM person WHERE state IN ('OR', 'ID', 'CA')),
     items AS (FROM auction WHERE category = 10)
SELECT local.name, local.city, local.state, items.id FROM items, local WHERE local.id = items.seller;
