-- User sessions. A session of a bidder is a run of bids of which none is ten seconds or more after the one before; it ends
-- ten seconds after its last bid. Of each the number of bids, the first one's time and the end.
WITH gaps AS (
  SELECT bidder, date_time,
         NOT EXISTS (
           FROM bid e
           WHERE e.bidder = b.bidder AND e.date_time < b.date_time AND e.date_time > b.date_time - INTERVAL 10 SECOND
         ) AS opens
  FROM bid b
),
starts AS (
  SELECT bidder, date_time AS start, lead(date_time, 1, 'infinity') OVER (PARTITION BY bidder ORDER BY date_time) AS next
  FROM (SELECT DISTINCT bidder, date_time FROM gaps WHERE opens)
)
SELECT s.bidder, count(*), s.start, max(b.date_time) + INTERVAL 10 SECOND AS "end"
FROM starts s JOIN bid b ON b.bidder = s.bidder AND b.date_time >= s.start AND b.date_time < s.next
GROUP BY s.bidder, s.start
HAVING "end" <= getvariable('bid_watermark');
