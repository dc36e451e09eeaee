-- Average selling price by seller. Auctions sell as in q4. Each time that one of a seller's auctions is sold, in the order
-- of the times of the bids that won (the earliest of the highest), the average price of this and the up to nine auctions
-- of the seller that were sold before: a row per sold auction.
WITH highest AS (
  SELECT a.id, a.seller, max(b.price) AS price
  FROM auction a JOIN bid b ON b.auction = a.id AND b.date_time BETWEEN a.date_time AND a.expires
  GROUP BY a.id, a.seller
),
sold AS (
  SELECT h.id, h.seller, h.price, min(b.date_time) AS at
  FROM highest h JOIN auction a USING (id) JOIN bid b ON b.auction = h.id AND b.price = h.price
  WHERE b.date_time BETWEEN a.date_time AND a.expires
  GROUP BY h.id, h.seller, h.price
),
prices AS (
  SELECT s.id, s.seller,
         list_slice(list(earlier.price ORDER BY earlier.at DESC, earlier.id DESC), 1, 10) AS last_ten
  FROM sold s JOIN sold earlier ON earlier.seller = s.seller AND (earlier.at, earlier.id) <= (s.at, s.id)
  GROUP BY s.id, s.seller
)
SELECT seller, list_sum(last_ten) / len(last_ten) FROM prices;
