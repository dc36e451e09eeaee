-- Processing time windows. Bids of each bidder per ten seconds of arrival. Bids are 46 of 50 events, after a person and three
-- auctions; events arrive a thousand at a time, four seconds from one time to the next, from noon of the next day on.
WITH arrived AS (
  SELECT bidder, ("row" // 46 * 50 + 4 + "row" % 46) // 1000 * 4 AS second FROM bid
)
SELECT bidder, count(*),
       TIMESTAMP '2015-07-16 12:00:00' + INTERVAL 10 SECOND * (second // 10),
       TIMESTAMP '2015-07-16 12:00:00' + INTERVAL 10 SECOND * (second // 10 + 1)
FROM arrived
GROUP BY bidder, second // 10;
