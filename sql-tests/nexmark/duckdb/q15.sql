-- Bidding statistics. Per day: bids, different bidders and different auctions that were bid on; of each the number of all, and
-- of those with a price below 10,000 (rank 1), from there to below 1,000,000 (rank 2), and from there (rank 3).
WITH ranked AS (
  SELECT date_time::DATE AS day, bidder, auction, CASE WHEN price < 10000 THEN 1 WHEN price < 1000000 THEN 2 ELSE 3 END AS rank
  FROM bid
),
per_rank AS (
  SELECT day, rank, count(*) AS bids, count(DISTINCT bidder) AS bidders, count(DISTINCT auction) AS auctions
  FROM ranked GROUP BY day, rank
),
per_day AS (
  SELECT day, count(*) AS bids, count(DISTINCT bidder) AS bidders, count(DISTINCT auction) AS auctions FROM ranked GROUP BY day
)
SELECT d.day::TIMESTAMP,
       d.bids, coalesce(r1.bids, 0), coalesce(r2.bids, 0), coalesce(r3.bids, 0),
       d.bidders, coalesce(r1.bidders, 0), coalesce(r2.bidders, 0), coalesce(r3.bidders, 0),
       d.auctions, coalesce(r1.auctions, 0), coalesce(r2.auctions, 0), coalesce(r3.auctions, 0)
FROM per_day d
LEFT JOIN per_rank r1 ON r1.day = d.day AND r1.rank = 1
LEFT JOIN per_rank r2 ON r2.day = d.day AND r2.rank = 2
LEFT JOIN per_rank r3 ON r3.day = d.day AND r3.rank = 3;
