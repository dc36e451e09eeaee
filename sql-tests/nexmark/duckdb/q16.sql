-- Channel statistics report. As q15, per channel and day, and with the minute of the last bid.
WITH ranked AS (
  SELECT channel, date_time::DATE AS day, date_time, bidder, auction,
         CASE WHEN price < 10000 THEN 1 WHEN price < 1000000 THEN 2 ELSE 3 END AS rank
  FROM bid
),
per_rank AS (
  SELECT channel, day, rank, count(*) AS bids, count(DISTINCT bidder) AS bidders, count(DISTINCT auction) AS auctions
  FROM ranked GROUP BY channel, day, rank
),
per_day AS (
  SELECT channel, day, max(epoch_us(date_time)) AS last,
         count(*) AS bids, count(DISTINCT bidder) AS bidders, count(DISTINCT auction) AS auctions
  FROM ranked GROUP BY channel, day
)
SELECT d.channel, d.day::TIMESTAMP, make_timestamp(d.last // 60000000 * 60000000),
       d.bids, coalesce(r1.bids, 0), coalesce(r2.bids, 0), coalesce(r3.bids, 0),
       d.bidders, coalesce(r1.bidders, 0), coalesce(r2.bidders, 0), coalesce(r3.bidders, 0),
       d.auctions, coalesce(r1.auctions, 0), coalesce(r2.auctions, 0), coalesce(r3.auctions, 0)
FROM per_day d
LEFT JOIN per_rank r1 ON r1.channel = d.channel AND r1.day = d.day AND r1.rank = 1
LEFT JOIN per_rank r2 ON r2.channel = d.channel AND r2.day = d.day AND r2.rank = 2
LEFT JOIN per_rank r3 ON r3.channel = d.channel AND r3.day = d.day AND r3.rank = 3;
